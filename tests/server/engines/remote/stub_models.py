"""The answers of the stub server that imitates vLLM with the bundled models."""

import math
from collections.abc import Sequence

from server.bundle.folders import bundled_models
from server.engines.remote.server import sample_tokens
from server.engines.rendering import StepTokenizer
from tests.server.engines.remote.stub_server import Answer, StubServer

CONTEXT_TOKENS = 300
RAW_SCORE = 0.7


def bundled_tokenizer() -> StepTokenizer:
    return StepTokenizer(bundled_models().policy / "tokenizer.json")


def card(name: str, **changes: object) -> dict[str, object]:
    """An entry of the list of models."""
    return {"id": name, "object": "model", "parent": None, "max_model_len": CONTEXT_TOKENS, **changes}


def choice(index: int, token_ids: Sequence[int], **changes: object) -> dict[str, object]:
    """One completion; every token has the log-probability -0.5."""
    logprobs = {"token_logprobs": [-0.5 for _ in token_ids]}
    return {"index": index, "finish_reason": "stop", "token_ids": list(token_ids), "logprobs": logprobs, **changes}


def scores(*raw: float) -> dict[str, object]:
    """An answer of /classify."""
    return {"data": [{"index": index, "probs": [score]} for index, score in enumerate(raw)]}


def play_policy(stub: StubServer, *completions: Answer) -> None:
    """A server that is up, with the bundled policy."""
    _play(stub, "policy")
    stub.script["/v1/completions"] = list(completions)


def play_ppm(stub: StubServer, *classified: Answer) -> None:
    """A server that is up, with the bundled PPM; the two answers of the check at the start come first."""
    _play(stub, "ppm")
    probability = 1 / (1 + math.exp(-RAW_SCORE))
    stub.script["/classify"] = [Answer(content=scores(RAW_SCORE)), Answer(content=scores(probability)), *classified]


def _play(stub: StubServer, name: str) -> None:
    tokenizer = bundled_tokenizer()
    text = tokenizer.decode(sample_tokens(tokenizer, tokenizer.stops if name == "policy" else ()))
    stub.script |= {
        "/health": [Answer(content=b"")],
        "/v1/models": [Answer(content={"data": [card(name)]})],
        "/detokenize": [Answer(content={"prompt": text})],
    }
