"""The values that engines and their callers share."""

from typing import Any

import pytest

from server.engines.protocols import Sampling


@pytest.mark.parametrize("options", [{"temperature": -1}, {"top_p": 0}, {"top_p": 1.1}, {"max_step_tokens": 0}])
def test_impossible_sampling_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected temperature"):
        Sampling(**options)
