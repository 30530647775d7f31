"""The few-shot policy over a remote server: its requests, and its use of the answers."""

from pathlib import Path as FilePath

import pytest

from search.format import Segment
from search.outcomes import CandidateStop
from search.protocols import Path
from server.engines.errors import RemoteMismatch
from server.engines.fewshot.format import FewShotFormat, read_format
from server.engines.model_folder import ModelFolder
from server.engines.protocols import Sampling
from server.engines.remote.client import RemoteAddress
from server.engines.remote.server import sample_tokens
from tests.server.engines.built import remote_policy_of
from tests.server.engines.remote.stub_models import card, choice
from tests.server.engines.remote.stub_server import Answer, StubServer
from tests.server.engines.tiny_models import CONTEXT_TOKENS

PATH = Path(problem="What is 12 + 30?")


def play_chat(stub: StubServer, tokens: FewShotFormat, answer: object) -> None:
    """A server with the chat model, which reads the tokens as the tokenizer does."""
    stub.script |= {
        "/health": [Answer(content=b"")],
        "/v1/models": [Answer(content={"data": [card("chat", max_model_len=CONTEXT_TOKENS)]})],
        "/detokenize": [Answer(content={"prompt": sample_text(tokens)})],
        "/v1/completions": [Answer(content=answer)],
    }


def sample_text(tokens: FewShotFormat) -> str:
    marks = "<|user|><|assistant|><code><end_of_step><end_of_code><output><end_of_output><answer><end_of_answer>"
    text = f"{marks}<|endoftext|>\n# Add 12 and 30\n<|im_start|>total = 42<extra_0><|im_end|><|endoftext|><|im_end|>"
    assert tokens.decode(sample_tokens(tokens.tokenizer, tokens.stop_token_ids)) == text
    return text


async def test_marks_are_stop_strings_and_the_text_behind_one_is_cut(stub: StubServer, chat_folder: FilePath) -> None:
    tokens = read_format(ModelFolder(chat_folder))
    ids = tokens.encode(Segment("\nx = 1\n<end_of_step>\n\n#", is_trusted=True))
    play_chat(stub, tokens, {"choices": [choice(0, ids)]})
    async with remote_policy_of(RemoteAddress(url=stub.url), chat_folder) as engine:
        (candidate,) = await engine.policy(Sampling(max_step_tokens=40)).propose(PATH, 1, seed=1)
        assert engine.context_tokens == CONTEXT_TOKENS
        assert engine.stats.tokens_generated == len(ids)
    assert (candidate.text, candidate.stop) == ("\nx = 1\n", CandidateStop.END_OF_STEP)
    assert tokens.decode(candidate.token_ids) == "\nx = 1\n<end_of_step>"
    (body,) = stub.bodies("/v1/completions")
    assert body["stop"] == ["<end_of_step>", "<end_of_code>", "<end_of_answer>", "<output>"]
    assert body["stop_token_ids"] == [0, 2]
    assert body["prompt"] == list(tokens.token_ids(PATH))
    assert body["repetition_penalty"] == 1.0


async def test_a_server_with_another_model_is_refused(stub: StubServer, chat_folder: FilePath) -> None:
    tokens = read_format(ModelFolder(chat_folder))
    play_chat(stub, tokens, {})
    stub.script["/detokenize"] = [Answer(content={"prompt": sample_text(tokens).replace("<|im_end|>", "</s>")})]
    with pytest.raises(RemoteMismatch, match="folders of the models served"):
        await remote_policy_of(RemoteAddress(url=stub.url), chat_folder).__aenter__()
