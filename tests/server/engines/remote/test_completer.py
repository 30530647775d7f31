"""The remote policy: its requests, and its use of the answers."""

from typing import Any

import pytest

from search.outcomes import CandidateStop
from search.protocols import Candidate, Path, PathStep, PathTooLong
from server.engines.errors import RemoteMismatch, RemoteUnavailable
from server.engines.protocols import Sampling
from server.engines.remote.client import RemoteAddress, RemoteLimits
from server.engines.rendering import END_OF_TEXT, PathTokens
from tests.server.engines.built import remote_policy
from tests.server.engines.remote.stub_models import CONTEXT_TOKENS, bundled_tokenizer, choice, play_policy
from tests.server.engines.remote.stub_server import Answer, StubServer

TOKENIZER = bundled_tokenizer()
END_OF_STEP = TOKENIZER.special_ids["<end_of_step>"]
PATH = Path(problem="What is 12 + 30?")


async def propose(
    stub: StubServer, limits: RemoteLimits, answer: Any, *, n: int = 1, sampling: Sampling | None = None
) -> list[Candidate]:
    """What the engine makes of one answer."""
    play_policy(stub, answer if isinstance(answer, Answer) else Answer(content=answer))
    async with remote_policy(RemoteAddress(url=stub.url), TOKENIZER, context_tokens=1536, limits=limits) as engine:
        policy = engine.policy(sampling or Sampling(temperature=0.9, top_p=0.95, max_step_tokens=32))
        return list(await policy.propose(PATH, n, seed=7))


async def test_a_request_leaves_nothing_to_the_model_s_defaults(stub: StubServer, limits: RemoteLimits) -> None:
    await propose(stub, limits, {"choices": [choice(k, [30]) for k in range(3)]}, n=3)
    (body,) = stub.bodies("/v1/completions")
    assert body.pop("prompt") == list(PathTokens(TOKENIZER).token_ids(PATH))
    assert 0 <= body.pop("seed") < 2**62
    assert body == {
        "model": "policy",
        "n": 3,
        "max_tokens": 32,
        "temperature": 0.9,
        "top_p": 0.95,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "stop_token_ids": list(TOKENIZER.stops),
        "stop": [],
        "logprobs": 0,
        "return_token_ids": True,
        "add_special_tokens": False,
        "skip_special_tokens": False,
    }


async def test_candidates_are_in_order_of_their_index(stub: StubServer, limits: RemoteLimits) -> None:
    answer = {"choices": [choice(1, [40, 41, END_OF_STEP]), choice(0, [50], finish_reason="length")]}
    cut, whole = await propose(stub, limits, answer, n=2)
    assert (cut.token_ids, cut.stop, cut.logprob) == ((50,), CandidateStop.LENGTH, -0.5)
    assert (whole.token_ids, whole.stop, whole.logprob) == ((40, 41, END_OF_STEP), CandidateStop.END_OF_STEP, -1.5)
    assert whole.text == TOKENIZER.decode_step((40, 41))


@pytest.mark.parametrize("last", [TOKENIZER.special_ids[END_OF_TEXT], TOKENIZER.size])
async def test_end_of_text_or_padding_makes_no_step(stub: StubServer, limits: RemoteLimits, last: int) -> None:
    (candidate,) = await propose(stub, limits, {"choices": [choice(0, [40, last])]})
    assert candidate.stop is CandidateStop.LENGTH
    assert candidate.token_ids == (40, last)


async def test_greedy_candidates_are_asked_for_once(stub: StubServer, limits: RemoteLimits) -> None:
    candidates = await propose(
        stub, limits, {"choices": [choice(0, [40, END_OF_STEP])]}, n=4, sampling=Sampling(temperature=0.0)
    )
    assert len(candidates) == 4
    assert {candidate.token_ids for candidate in candidates} == {(40, END_OF_STEP)}
    assert stub.bodies("/v1/completions")[0]["n"] == 1


async def test_neighbouring_seeds_are_far_apart_on_the_wire(stub: StubServer, limits: RemoteLimits) -> None:
    play_policy(stub, Answer(content={"choices": [choice(0, [30])]}))
    async with remote_policy(RemoteAddress(url=stub.url), TOKENIZER, context_tokens=1536, limits=limits) as engine:
        for seed in (1, 2, 1, 2**63 - 1):
            await engine.policy(Sampling()).propose(PATH, 1, seed=seed)
    one, two, again, large = (body["seed"] for body in stub.bodies("/v1/completions"))
    assert one == again
    assert min(abs(one - two), abs(one - large), abs(two - large)) > 1000


async def test_a_step_ends_where_the_context_does(stub: StubServer, limits: RemoteLimits) -> None:
    play_policy(stub, Answer(content={"choices": [choice(0, [30])]}))
    async with remote_policy(RemoteAddress(url=stub.url), TOKENIZER, context_tokens=1536, limits=limits) as engine:
        used = engine.prompt_tokens(PATH.problem)
        for room in (5, 0):
            step = PathStep(text="", token_ids=(40,) * (CONTEXT_TOKENS - used - room), stop=CandidateStop.END_OF_STEP)
            path = Path(problem=PATH.problem, steps=(step,))
            if room:
                await engine.policy(Sampling()).propose(path, 1, seed=1)
            else:
                with pytest.raises(PathTooLong):
                    await engine.policy(Sampling()).propose(path, 1, seed=1)
        with pytest.raises(ValueError, match="n >= 1"):
            await engine.policy(Sampling()).propose(PATH, 0, seed=1)
    (body,) = stub.bodies("/v1/completions")
    assert body["max_tokens"] == 5


async def test_tokens_are_counted(stub: StubServer, limits: RemoteLimits) -> None:
    usage = {"prompt_tokens_details": {"cached_tokens": 16}}
    play_policy(stub, Answer(content={"choices": [choice(0, [40, 41, 42]), choice(1, [40])], "usage": usage}))
    async with remote_policy(RemoteAddress(url=stub.url), TOKENIZER, context_tokens=1536, limits=limits) as engine:
        await engine.policy(Sampling()).propose(PATH, 2, seed=1)
        stats = engine.stats
        assert (stats.requests, stats.tokens_generated, stats.tokens_reused) == (1, 4, 16)
        assert stats.tokens_encoded == engine.prompt_tokens(PATH.problem) - 16
        assert stats.batch_size_sum == 2


BROKEN: list[tuple[object, str]] = [
    ({}, "list of objects as choices"),
    ({"choices": ["text"]}, "list of objects as choices"),
    ({"choices": []}, "results 0 to 0"),
    ({"choices": [choice(1, [30])]}, "results 0 to 0"),
    ({"choices": [{**choice(0, [30]), "token_ids": None}]}, "token_ids, got None; it needs vLLM 0.32"),
    ({"choices": [choice(0, [30], logprobs=None)]}, "token_logprobs"),
    ({"choices": [choice(0, [30], logprobs={"token_logprobs": [None]})]}, "token_logprobs"),
]


@pytest.mark.parametrize(("answer", "message"), BROKEN)
async def test_an_answer_that_lacks_something_is_a_mismatch(
    stub: StubServer, limits: RemoteLimits, answer: object, message: str
) -> None:
    with pytest.raises(RemoteMismatch, match=message):
        await propose(stub, limits, answer)


async def test_a_generation_that_the_server_breaks_off_is_no_candidate(stub: StubServer, limits: RemoteLimits) -> None:
    with pytest.raises(RemoteUnavailable, match="broke off a generation"):
        await propose(stub, limits, {"choices": [choice(0, [30], finish_reason="abort")]})
