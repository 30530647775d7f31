"""The context that a remote server serves is known once the engines are entered, and is respected then."""

import pytest

from server.bundle.folders import bundled_models
from server.parts.opening import open_local_parts
from server.parts.serving import PartsUnavailable
from server.settings.settings import Settings
from tests.server.engines.remote.stub_models import CONTEXT_TOKENS, card, play_policy
from tests.server.engines.remote.stub_server import Answer, StubServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


async def test_a_server_whose_context_holds_no_step_is_refused(stub: StubServer) -> None:
    play_policy(stub)
    served = 200
    stub.script["/v1/models"] = [Answer(content={"data": [card("policy", max_model_len=served)]})]
    settings = Settings(engine="openai", policy_url=stub.url, ppm_url=stub.url, sandbox_min_level="reduced")
    assert served < settings.max_step_tokens < CONTEXT_TOKENS
    with pytest.raises(PartsUnavailable, match=r"a context of 200 tokens has no room.*lower RSTAR_MAX_STEP_TOKENS"):
        async with open_local_parts(bundled_models(), settings, lambda _: None):
            pass
