"""Completions from a remote vLLM server, token ids in and out."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import repeat

from server.engines.fewshot.completer import Completion, CompletionRequest
from server.engines.protocols import EngineName
from server.engines.remote.client import RemoteAddress, RemoteLimits
from server.engines.remote.engine import RemoteEngine
from server.engines.remote.errors import RemoteUnavailable
from server.engines.remote.model import check_tokens
from server.engines.remote.payloads import JsonObject, as_object, in_order, numbers, objects
from server.engines.stats import EngineCounters

_PATH = "/v1/completions"


class RemoteCompleter(RemoteEngine):
    """`server.engines.fewshot.completer.Completer` over HTTP."""

    def __init__(
        self,
        address: RemoteAddress,
        *,
        context_tokens: int,
        telling: Mapping[str, Sequence[int]],
        limits: RemoteLimits | None = None,
    ) -> None:
        """`context_tokens`: of the model; the server may serve fewer. `telling`: see `check_tokens`."""
        super().__init__(EngineName.POLICY, address, context_tokens=context_tokens, limits=limits)
        self._telling = telling

    async def complete(self, request: CompletionRequest) -> Sequence[Completion]:
        """Raises what the client raises, and `RemoteMismatch` for an answer without token ids."""
        # The server refuses more than one greedy sample, and all of them would be the same.
        drawn = request.n if request.sampling.temperature > 0 else 1
        where = self._server.client.url + _PATH
        with self._server.calling(drawn):
            answer = await self._server.client.post(_PATH, self._body(request, n=drawn))
            choices = in_order(objects(answer, "choices", where=where), where=where, expected=drawn)
            completions = [_completion(choice, where=where) for choice in choices]
        self._server.counters.tokens_generated += sum(len(completion.token_ids) for completion in completions)
        _count_prompt(self._server.counters, answer, length=len(request.prompt))
        return completions if drawn == request.n else list(repeat(completions[0], request.n))

    async def _check(self) -> None:
        await check_tokens(self._server.client, self._server.model, self._telling)

    def _body(self, request: CompletionRequest, *, n: int) -> JsonObject:
        return {
            "model": self._server.model.name,
            "prompt": request.prompt,
            "n": n,
            "max_tokens": request.max_tokens,
            "seed": request_seed(request.seed),
            "temperature": request.sampling.temperature,
            "top_p": request.sampling.top_p,
            # Said aloud, since the server would otherwise take them from the model's generation_config.json.
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "stop_token_ids": request.stop_token_ids,
            "stop": request.stop_strings,
            "logprobs": 0,
            "return_token_ids": True,
            "add_special_tokens": False,
            "skip_special_tokens": False,
        }


def request_seed(seed: int) -> int:
    """A seed from 0 to 2**62 - 1. The server gives sample k of a request this number + k: neighbouring seeds must not
    stay neighbours, nor leave the range of signed 64-bit numbers."""
    return int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=8).digest(), "big") >> 2


def _completion(choice: JsonObject, *, where: str) -> Completion:
    if choice.get("finish_reason") not in {"stop", "length"}:
        raise RemoteUnavailable(f"{where} broke off a generation ({choice.get('finish_reason')}); is it shutting down?")
    token_ids = numbers(choice.get("token_ids"), where=where, what="token_ids")
    logprobs = as_object(choice.get("logprobs")) or {}
    token_logprobs = numbers(logprobs.get("token_logprobs"), where=where, what="token_logprobs")
    return Completion(token_ids=tuple(map(int, token_ids)), logprob=sum(token_logprobs))


def _count_prompt(counters: EngineCounters, answer: JsonObject, *, length: int) -> None:
    """The server tells how much of the prompt it had cached when started with --enable-prompt-tokens-details."""
    usage = as_object(answer.get("usage")) or {}
    cached = (as_object(usage.get("prompt_tokens_details")) or {}).get("cached_tokens")
    reused = min(cached, length) if isinstance(cached, int) else 0
    counters.tokens_reused += reused
    counters.tokens_encoded += length - reused
