"""The labels of a request for vLLM: its id and its trace. With a stand-in for vLLM."""

from pathlib import Path as FilePath

import pytest

from search.protocols import Path
from server.engines.protocols import Sampling
from server.engines.vllm.arguments import Label, VllmOptions
from tests.server.engines.vllm.fake_llm import FakeLlm, fake_policy, fake_scorer

pytestmark = pytest.mark.usefixtures("stand_in_for_vllm")


async def test_a_request_has_the_id_and_trace_of_its_caller(policy_folder: FilePath, ppm_folder: FilePath) -> None:
    generating, scoring = FakeLlm(), FakeLlm()
    trace = {"traceparent": "00-1-2-01", "tracestate": "a=b"}
    options = VllmOptions(label=lambda: Label("mine-01234567", trace))
    async with (
        fake_policy(lambda: generating, policy_folder, options) as policy,
        fake_scorer(lambda: scoring, ppm_folder, options) as scorer,
    ):
        (candidate,) = await policy.policy(Sampling()).propose(Path(problem="1+2"), 1, seed=0)
        (score,) = await scorer.score([Path(problem="1+2")])
    assert (candidate.token_ids, score > 0) == ((5,), True)
    for llm in (generating, scoring):
        assert llm.labels == [("first", {}), ("mine-01234567", trace)]


async def test_requests_without_a_caller_have_ids_of_their_own(ppm_folder: FilePath) -> None:
    llm = FakeLlm()
    async with fake_scorer(lambda: llm, ppm_folder) as scorer:
        llm.labels.clear()
        await scorer.score([Path(problem="1+2"), Path(problem="1+3")])
    (first, first_trace), (second, second_trace) = llm.labels
    assert first != second
    assert (first_trace, second_trace) == ({}, {})
