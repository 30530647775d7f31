"""Completions from a vLLM server, token ids in and out."""

from collections.abc import Sequence

from server.engines.errors import RemoteUnavailable
from server.engines.policy import Completion, CompletionRequest, StepFormat, vllm_seed
from server.engines.protocols import EngineName
from server.engines.remote.client import JsonObject, RemoteAddress, RemoteLimits, as_object, in_order, numbers, objects
from server.engines.remote.server import RemoteEngine

_PATH = "/v1/completions"


class RemoteCompleter(RemoteEngine):
    """`server.engines.policy.Completer` over HTTP."""

    def __init__(
        self,
        address: RemoteAddress,
        step_format: StepFormat,
        *,
        context_tokens: int,
        limits: RemoteLimits | None = None,
    ) -> None:
        """`step_format`: of the policy; its tokens are compared with the server's."""
        super().__init__(
            EngineName.POLICY,
            address,
            step_format.tokenizer,
            end_ids=step_format.stop_token_ids,
            context_tokens=context_tokens,
            limits=limits,
        )

    async def complete(self, request: CompletionRequest) -> Sequence[Completion]:
        """Raises what the client raises, and `RemoteMismatch` for an answer without token ids."""
        where = self._client.url + _PATH
        with self.calling(request.n):
            answer = await self._client.post(_PATH, self._body(request))
            choices = in_order(objects(answer, "choices", where=where), where=where, expected=request.n)
            completions = [_completion(choice, where=where) for choice in choices]
        self.counters.tokens_generated += sum(len(completion.token_ids) for completion in completions)
        self._count_prompt(answer, length=len(request.prompt))
        return completions

    async def _check(self) -> None:
        """Any model that has these tokens can be asked to complete."""

    def _body(self, request: CompletionRequest) -> JsonObject:
        return {
            "model": self.model.name,
            "prompt": request.prompt,
            "n": request.n,
            "max_tokens": request.max_tokens,
            "seed": vllm_seed(request.seed),
            "temperature": request.sampling.temperature,
            "top_p": request.sampling.top_p,
            # Given, since the server would otherwise take them from the model's generation_config.json.
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

    def _count_prompt(self, answer: JsonObject, *, length: int) -> None:
        """A server started with --enable-prompt-tokens-details says how much of the prompt it had cached."""
        usage = as_object(answer.get("usage")) or {}
        cached = (as_object(usage.get("prompt_tokens_details")) or {}).get("cached_tokens")
        reused = min(cached, length) if isinstance(cached, int) else 0
        self.counters.tokens_reused += reused
        self.counters.tokens_encoded += length - reused


def _completion(choice: JsonObject, *, where: str) -> Completion:
    if choice.get("finish_reason") not in {"stop", "length"}:
        raise RemoteUnavailable(f"{where} broke off a generation ({choice.get('finish_reason')}); is it shutting down?")
    token_ids = numbers(choice.get("token_ids"), where=where, what="token_ids")
    logprobs = as_object(choice.get("logprobs")) or {}
    token_logprobs = numbers(logprobs.get("token_logprobs"), where=where, what="token_logprobs")
    return Completion(token_ids=tuple(map(int, token_ids)), logprob=sum(token_logprobs))
