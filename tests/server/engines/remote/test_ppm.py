"""The remote PPM: one request for all paths, raw scores, tanh here."""

import math

import pytest

from search.outcomes import CandidateStop
from search.protocols import Path, PathStep, PathTooLong
from server.bundle.folders import bundled_models
from server.engines.errors import RemoteMismatch
from server.engines.prm.pooling import STEP_PROBABILITY
from server.engines.protocols import EngineName
from server.engines.remote.client import RemoteAddress, RemoteLimits
from server.engines.remote.ppm import RemoteScorer
from server.engines.rendering import PathTokens
from tests.server.engines.built import remote_engines
from tests.server.engines.remote.stub_models import CONTEXT_TOKENS, bundled_tokenizer, play_ppm, scores
from tests.server.engines.remote.stub_server import Answer, StubServer

TOKENIZER = bundled_tokenizer()
PATHS = [Path(problem="1 + 1?"), Path(problem="What is 12 + 30?")]


def engine(stub: StubServer, limits: RemoteLimits) -> RemoteScorer:
    return RemoteScorer(RemoteAddress(url=stub.url), PathTokens(TOKENIZER), context_tokens=1536, limits=limits)


def process_reward_model(stub: StubServer, limits: RemoteLimits) -> RemoteScorer:
    return RemoteScorer(
        RemoteAddress(url=stub.url),
        PathTokens(TOKENIZER),
        STEP_PROBABILITY,
        context_tokens=1536,
        limits=limits,
    )


async def test_all_paths_go_in_one_request_and_come_back_in_order(stub: StubServer, limits: RemoteLimits) -> None:
    play_ppm(stub, Answer(content={"data": scores(0.2, -1.5)["data"][::-1]}))  # pyright: ignore[reportIndexIssue, reportUnknownArgumentType] # a list
    async with engine(stub, limits) as scorer:
        assert await scorer.score(PATHS) == [math.tanh(0.2), math.tanh(-1.5)]
        assert (scorer.stats.requests, scorer.stats.batch_size_sum, scorer.stats.running) == (1, 2, 0)
    body = stub.bodies("/classify")[-1]
    assert body == {
        "model": "ppm",
        "input": [list(PathTokens(TOKENIZER).token_ids(path)) for path in PATHS],
        "use_activation": False,
        "add_special_tokens": False,
    }


async def test_no_paths_ask_nothing(stub: StubServer, limits: RemoteLimits) -> None:
    play_ppm(stub)
    async with engine(stub, limits) as scorer:
        asked = len(stub.asked)
        assert await scorer.score([]) == []
        assert len(stub.bodies("/classify")) == 2  # the check at the start
        assert len(stub.asked) == asked


async def test_a_path_longer_than_the_context_is_refused(stub: StubServer, limits: RemoteLimits) -> None:
    play_ppm(stub)
    step = PathStep(text="", token_ids=(40,) * CONTEXT_TOKENS, stop=CandidateStop.END_OF_STEP)
    async with engine(stub, limits) as scorer:
        with pytest.raises(PathTooLong):
            await scorer.score([Path(problem="1?", steps=(step,))])


async def test_a_server_that_squashes_its_scores_anyway_is_refused(stub: StubServer, limits: RemoteLimits) -> None:
    play_ppm(stub)
    stub.script["/classify"] = [Answer(content=scores(0.668))]
    with pytest.raises(RemoteMismatch, match=r"do not belong together; it needs vLLM 0\.32 or later"):
        await engine(stub, limits).__aenter__()


async def test_a_model_with_two_labels_is_refused(stub: StubServer, limits: RemoteLimits) -> None:
    play_ppm(stub)
    stub.script["/classify"] = [Answer(content={"data": [{"index": 0, "probs": [0.5, 0.5]}]})]
    with pytest.raises(RemoteMismatch, match="expected a PPM with 1 label, found 2"):
        await engine(stub, limits).__aenter__()


async def test_of_a_process_reward_model_the_last_step_counts(stub: StubServer, limits: RemoteLimits) -> None:
    play_ppm(stub)
    rows = [[[0.1, 0.9]], [[0.1, 0.9], [0.75, 0.25]]]
    stub.script["/pooling"] = [
        Answer(content={"data": [{"index": 0, "data": rows[0]}]}),
        Answer(content={"data": [{"index": index, "data": row} for index, row in enumerate(rows)]}),
    ]
    scorer = process_reward_model(stub, limits)
    async with scorer:
        assert await scorer.score(PATHS) == pytest.approx([0.8, -0.5])
    body = stub.bodies("/pooling")[-1]
    assert (body["task"], body["use_activation"]) == ("token_classify", True)


@pytest.mark.parametrize("rows", [[], [[0.4]], [[0.4, 0.6], [0.4, 0.6]], [[1.4, 0.6]], 3, None])
async def test_what_is_no_process_reward_model_is_refused(stub: StubServer, limits: RemoteLimits, rows: object) -> None:
    play_ppm(stub)
    stub.script["/pooling"] = [Answer(content={"data": [{"index": 0, "data": rows}]})]
    scorer = process_reward_model(stub, limits)
    with pytest.raises(RemoteMismatch):
        await scorer.__aenter__()


def test_engines_are_made_of_two_addresses_and_two_folders(stub: StubServer) -> None:
    address = RemoteAddress(url=stub.url)
    engines = remote_engines(address, address, bundled_models())
    assert set(engines.stats()) == set(EngineName)
    assert engines.policy.prompt_tokens("1?") == len(PathTokens(TOKENIZER).token_ids(Path(problem="1?")))
