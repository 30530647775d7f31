"""The few-shot policy over a remote server: what it sends, and what it makes of the answer."""

from pathlib import Path as FilePath

import pytest

from search.format import Segment
from search.outcomes import CandidateStop
from search.protocols import Path
from server.engines.fewshot.chat import frame_of
from server.engines.fewshot.engines import remote_instruct_policy
from server.engines.fewshot.tokens import InstructTokens, read_tokens
from server.engines.protocols import Sampling
from server.engines.remote.client import RemoteAddress
from server.engines.remote.errors import RemoteMismatch
from tests.server.engines.off_the_shelf.tiny_models import CONTEXT_TOKENS
from tests.server.engines.remote.stub_models import card, choice
from tests.server.engines.remote.stub_server import Answer, StubServer

PATH = Path(problem="What is 12 + 30?")


def play_chat(stub: StubServer, tokens: InstructTokens, answer: object) -> None:
    """A server with the chat model, which reads the tokens as the tokenizer does."""
    stub.script |= {
        "/health": [Answer(content=b"")],
        "/v1/models": [Answer(content={"data": [card("chat", max_model_len=CONTEXT_TOKENS)]})],
        "/detokenize": [Answer(content={"prompt": telling_text(tokens)})],
        "/v1/completions": [Answer(content=answer)],
    }


def telling_text(tokens: InstructTokens) -> str:
    marks = "<|user|><|assistant|><code><end_of_step><end_of_code><output><end_of_output><answer><end_of_answer>"
    return f"\n# Add 12 and 30\ntotal = 12 + 30\n{marks}<|endoftext|><|im_end|>"


async def test_marks_are_stop_strings_and_the_text_behind_one_is_cut(stub: StubServer, chat_folder: FilePath) -> None:
    tokens = read_tokens(chat_folder, frame_of(chat_folder))
    ids = tokens.encode(Segment("\nx = 1\n<end_of_step>\n\n#", is_trusted=True))
    play_chat(stub, tokens, {"choices": [choice(0, ids)]})
    async with remote_instruct_policy(RemoteAddress(url=stub.url), chat_folder) as engine:
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
    tokens = read_tokens(chat_folder, frame_of(chat_folder))
    play_chat(stub, tokens, {})
    stub.script["/detokenize"] = [Answer(content={"prompt": telling_text(tokens).replace("<|im_end|>", "</s>")})]
    with pytest.raises(RemoteMismatch, match="folders of the models served"):
        await remote_instruct_policy(RemoteAddress(url=stub.url), chat_folder).__aenter__()
