"""Files of problems are checked."""

from pathlib import Path

import pytest

from training.problems.files import ProblemFileError, file_problems


def test_a_file_without_problems_is_refused_by_name(tmp_path: Path) -> None:
    for content in ("not json", "{}", '[{"question": "what?"}]', '["text"]'):
        file = tmp_path / "bad.json"
        file.write_text(content)
        with pytest.raises(ProblemFileError, match=r"bad\.json"):
            file_problems(file)
