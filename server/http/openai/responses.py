"""Responses: the result of a search as a chat completion, whole or as the chunks of a stream.

A stream holds the role, the reasoning as it happens, the content, the reason why it ends, with `include_usage` the
usage, and `[DONE]`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from search import Event
from server.http.openai.errors import error_body
from server.http.openai.narration import UNUSED, narrate
from server.http.openai.schemas import ChatCompletion, Choice, CompletionUsage, FinishReason, ReplyMessage, TokenDetails
from server.http.responses import json_bytes, solve_response
from server.http.schemas import SolveResponse, Step
from server.solving.refusals import Refusal
from server.solving.searches import FinishedSearch, Watcher

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What one reply repeats in each of its parts, and how the client wants it."""

    search_id: str
    created: int
    model: str
    fingerprint: str
    trajectories: int | None
    """The budget."""
    stops: Sequence[str]
    """The content ends before the first of them."""
    tells_unused: bool
    """Whether some messages were not used."""
    includes_usage: bool
    """Whether a stream ends with the usage."""

    @property
    def id(self) -> str:
        """As OpenAI's ids look; the part after the hyphen is the search's own."""
        return f"chatcmpl-{self.search_id}"

    def opening(self) -> str:
        """The reasoning before the first event."""
        return UNUSED if self.tells_unused else ""

    def narration(self, events: Sequence[Event]) -> str:
        """The reasoning about these events."""
        return "".join(narrate(event, trajectories=self.trajectories) for event in events)

    def content(self, solved: SolveResponse) -> str:
        """The worked answer, up to the first stop."""
        whole = worked_answer(solved)
        ends = [at for stop in self.stops if (at := whole.find(stop)) >= 0]
        return whole[: min(ends, default=len(whole))]


async def completion(watcher: Watcher, reply: Reply) -> bytes | Refusal:
    """The response without streaming, once the search has ended."""
    reasoning = [reply.opening()]
    while events := await watcher.events():
        reasoning.append(reply.narration(events))
    finished = await watcher.search.ending()
    if isinstance(finished, Refusal):
        return finished
    text = "".join(reasoning)
    solved = solve_response(finished)
    message = ReplyMessage(content=reply.content(solved), reasoning=text, reasoning_content=text)
    whole = ChatCompletion(
        id=reply.id,
        created=reply.created,
        model=reply.model,
        system_fingerprint=reply.fingerprint,
        choices=[Choice(message=message, finish_reason=_finish_reason(solved))],
        usage=usage(finished),
        search=solved,
    )
    return json_bytes(whole.model_dump(exclude={"search": {"tree"}}))


class ChatFrames:
    """The chunks of a streamed completion; see `server.http.streams.Frames`."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def opening(self) -> bytes:
        """The role, and what is to be told first."""
        role = self._delta({"role": "assistant", "content": ""})
        told = self._reply.opening()
        return role + (self._reasoning(told) if told else b"")

    def events(self, events: Sequence[Event]) -> bytes:
        """The reasoning about these events."""
        return self._reasoning(self._reply.narration(events))

    async def result(self, finished: FinishedSearch) -> bytes:
        """The content, the reason for its end, and the usage if the client wants it."""
        solved = solve_response(finished)
        content = self._delta({"content": self._reply.content(solved)})
        summary = solved.model_dump(exclude={"tree"})
        end = self._delta({}, finish_reason=_finish_reason(solved), search=summary)
        spent = usage(finished).model_dump()
        last = self._chunk(choices=[], usage=spent) if self._reply.includes_usage else b""
        return content + end + last + DONE

    def error(self, refusal: Refusal) -> bytes:
        """The error. Nothing follows it, so that no client takes the reply for whole."""
        return _frame(error_body(refusal).model_dump())

    def _reasoning(self, text: str) -> bytes:
        return self._delta({"reasoning": text, "reasoning_content": text})

    def _delta(self, delta: dict[str, object], *, finish_reason: str | None = None, **fields: object) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        no_usage = {"usage": None} if self._reply.includes_usage else {}
        return self._chunk(choices=[choice], **no_usage, **fields)

    def _chunk(self, **fields: object) -> bytes:
        reply = self._reply
        head = {"id": reply.id, "object": "chat.completion.chunk", "created": reply.created, "model": reply.model}
        return _frame({**head, "system_fingerprint": reply.fingerprint, **fields})


def usage(finished: FinishedSearch) -> CompletionUsage:
    """The policy's tokens, counted by its own tokenizer."""
    result = finished.result
    generated = result.usage.policy_tokens
    steps = [step for node_id in result.best_path if (step := result.tree[node_id].step) is not None]
    shown = sum(len(step.token_ids) for step in steps)
    return CompletionUsage(
        prompt_tokens=finished.problem_tokens,
        completion_tokens=generated,
        total_tokens=finished.problem_tokens + generated,
        completion_tokens_details=TokenDetails(reasoning_tokens=max(0, generated - shown)),
    )


def worked_answer(solved: SolveResponse) -> str:
    """The steps behind the answer and the answer, as Markdown."""
    if solved.answer is None:
        return f"No answer was found: the search ended ({solved.stop_reason}) before a trajectory stated one."
    steps = "".join(map(_step_as_markdown, solved.steps))
    return rf"{steps}The answer is $\boxed{{{solved.answer_latex}}}$."


def _step_as_markdown(step: Step) -> str:
    comment = f"{step.comment}\n\n" if step.comment else ""
    output = f"Output:\n\n{_fenced(step.output)}" if step.output else ""
    return f"{comment}{_fenced(step.code, language='python')}{output}"


def _fenced(text: str, *, language: str = "") -> str:
    """A block of code. Its fence is longer than any run of backticks in the text, so that the text cannot end it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n\n"


def _finish_reason(solved: SolveResponse) -> FinishReason:
    return "length" if solved.answer is None else "stop"


def _frame(payload: object) -> bytes:
    return b"data: " + json_bytes(payload) + b"\n\n"
