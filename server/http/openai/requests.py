"""Requests: what a chat request asks for, in the words of `POST /solve`."""

from pydantic import ValidationError

from server.http.errors import field_error
from server.http.openai.schemas import ChatRequest, ChatSearch, Role
from server.http.schemas import SolveRequest
from server.solving.refusals import FieldError, Refusal, RefusalKind, invalid

TAG = "search."
"""Keys of `metadata` that begin so are fields of `search`."""


def check_model(named: str, *, served: str) -> None:
    """Raises a `Refusal` for another model than the one that is served."""
    if named != served:
        error = FieldError(field="model", detail=f"there is no model {named[:80]!r} here; the only one is {served!r}")
        raise Refusal(RefusalKind.NOT_FOUND, error.detail, errors=(error,))


def solve_request(chat: ChatRequest) -> SolveRequest:
    """The same request to `POST /solve`. Raises a `Refusal`."""
    if chat.stream_options is not None and not chat.stream:
        raise invalid(FieldError(field="stream_options", detail="is allowed only with stream"))
    if len({chat.max_tokens, chat.max_completion_tokens} - {None}) > 1:
        raise invalid(FieldError(field="max_tokens", detail="differs from max_completion_tokens: give one of them"))
    search = _search(chat)
    return SolveRequest(
        problem="\n\n".join(message.text for message in chat.messages if message.role is Role.USER),
        trajectories=search.trajectories,
        effort=chat.reasoning_effort,
        max_tokens=chat.max_completion_tokens or chat.max_tokens,
        timeout_s=search.timeout_s,
        temperature=chat.temperature,
        top_p=chat.top_p,
        seed=chat.seed or 0,
        cache=search.cache,
        search=search,
    )


def has_unused_messages(chat: ChatRequest) -> bool:
    """Whether some messages are no part of the problem."""
    return any(message.role is not Role.USER for message in chat.messages)


def _search(chat: ChatRequest) -> ChatSearch:
    """The field `search` together with the keys of `metadata` that stand for its fields."""
    given = chat.search or ChatSearch()
    tags = {key.removeprefix(TAG): tag for key, tag in (chat.metadata or {}).items() if key.startswith(TAG)}
    try:
        tagged = ChatSearch.model_validate_strings(tags, strict=False)
    except ValidationError as error:
        problems = [
            {**problem, "loc": ("metadata", TAG + ".".join(map(str, problem["loc"])))} for problem in error.errors()
        ]
        raise invalid(*map(field_error, problems)) from None
    if both := sorted(given.model_fields_set & tagged.model_fields_set):
        detail = "is given in search and in metadata: give it once"
        raise invalid(*(FieldError(field=f"search.{name}", detail=detail) for name in both))
    return given.model_copy(update={name: getattr(tagged, name) for name in tagged.model_fields_set})
