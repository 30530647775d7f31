"""Schemas: the JSON of OpenAI's chat completions and models, as far as this server supports it.

The names and shapes are OpenAI's (<https://platform.openai.com/docs/api-reference/chat>). `search` is ours. A field
that OpenAI has and this server cannot honour takes only the values that ask for nothing.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from server.http.schemas import Count, Effort, RequestModel, ResponseModel, SearchOptions, Seed, SolveResponse
from server.solving.searches import CacheUse

MAX_STOPS = 4
"""As many stop sequences as OpenAI allows."""


class TextPart(RequestModel):
    """A part of a message. Images, audio and files are not supported."""

    type: Literal["text"]
    text: str


def _as_parts(content: object) -> object:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _as_list(stop: object) -> object:
    return [stop] if isinstance(stop, str) else stop


_Parts = Annotated[list[TextPart], Field(min_length=1)]
_Stop = Annotated[str, Field(min_length=1)]
_Stops = Annotated[list[_Stop], Field(max_length=MAX_STOPS)]

Content = Annotated[_Parts, BeforeValidator(_as_parts, json_schema_input_type=str | _Parts)]
Stops = Annotated[_Stops, BeforeValidator(_as_list, json_schema_input_type=_Stop | _Stops)]


class Role(StrEnum):
    """Who speaks. Turns of an assistant or a tool are refused: a request holds one problem and no conversation."""

    USER = "user"
    SYSTEM = "system"
    DEVELOPER = "developer"


class Message(RequestModel):
    """One message of the request."""

    role: Annotated[Role, Field(strict=False)]
    content: Content
    name: str | None = None
    """Accepted, not used."""

    @field_validator("role", mode="before")
    @classmethod
    def _check_role(cls, role: object) -> object:
        if role in {"assistant", "tool", "function"}:
            message = "must be 'user', 'system' or 'developer', because earlier turns are not used: send one problem"
            raise PydanticCustomError("conversation", message)
        return role

    @property
    def text(self) -> str:
        """All its text."""
        return "".join(part.text for part in self.content)


class StreamOptions(RequestModel):
    """What a stream also holds."""

    include_usage: bool | None = None
    """Send the usage in a last chunk without choices."""
    include_obfuscation: bool | None = None
    """Accepted, not used."""


class ChatSearch(SearchOptions):
    """How to search, and the parts of the budget for which OpenAI has no field."""

    trajectories: Count | None = None
    """The budget: the number of finished trajectories. Not together with `reasoning_effort`."""
    timeout_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds from the request's arrival. The best answer so far is returned when they are over."""
    cache: Annotated[CacheUse, Field(strict=False)] = CacheUse.USE
    """What to do with the tree of an earlier search of the same problem."""


Nothing = Annotated[list[object], Field(max_length=0)]
Zero = Annotated[float, Field(ge=0, le=0)]


class TextFormat(RequestModel):
    """The only format of the content."""

    type: Literal["text"]


class ChatRequest(RequestModel):
    """The body of `POST /v1/chat/completions`."""

    model: str
    """The id that `GET /v1/models` lists."""
    messages: Annotated[list[Message], Field(min_length=1)]
    """The texts of all user messages are one problem. System and developer messages are not used."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    """Only with `stream`."""
    reasoning_effort: Annotated[Effort, Field(strict=False)] | None = None
    """The budget. The operator sets the number of trajectories for each."""
    max_completion_tokens: Count | None = None
    """A second limit: generated tokens, those of the whole search included."""
    max_tokens: Count | None = None
    """The older name of `max_completion_tokens`."""
    temperature: Annotated[float, Field(ge=0)] | None = None
    """Sampling temperature of candidates; 0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the probability mass that candidates are sampled from."""
    seed: Seed | None = None
    """Seed of the sampling; 0 if it is left out."""
    stop: Stops | None = None
    """The content ends before the first of these texts."""
    search: ChatSearch | None = None
    """How to search. The `openai` client sends it as `extra_body={"search": {...}}`."""
    metadata: dict[str, str] | None = None
    """A key `search.x` is the same as the field `x` of `search`. Other keys are not used."""

    # Accepted with the values that change nothing.
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    logprobs: Literal[False] | None = None
    top_logprobs: Zero | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    response_format: TextFormat | None = None
    modalities: Annotated[list[Literal["text"]], Field(min_length=1)] | None = None
    store: Literal[False] | None = None
    tools: Nothing | None = None
    tool_choice: Literal["none", "auto"] | None = None
    functions: Nothing | None = None
    function_call: Literal["none", "auto"] | None = None
    audio: None = None
    moderation: None = None
    web_search_options: None = None

    # Accepted and not used: they name the caller, or ask for no other answer.
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, object] | None = None
    prompt_cache_retention: str | None = None
    service_tier: str | None = None
    parallel_tool_calls: bool | None = None
    prediction: dict[str, object] | None = None
    verbosity: str | None = None

    @field_validator("messages")
    @classmethod
    def _check_problem(cls, messages: list[Message]) -> list[Message]:
        if not any(message.role is Role.USER and message.text.strip() for message in messages):
            raise PydanticCustomError("no_problem", "must hold a user message whose text is not blank")
        return messages


FinishReason = Literal["stop", "length"]
"""`length` if the search ended without an answer."""


class TokenDetails(ResponseModel):
    """The generated tokens by purpose."""

    reasoning_tokens: int
    """Generated during the search and not part of the content."""


class CompletionUsage(ResponseModel):
    """The policy's tokens. `search.usage` has the rest."""

    prompt_tokens: int
    """Length of the problem as the policy reads it."""
    completion_tokens: int
    """Tokens that the policy generated, dropped candidates included."""
    total_tokens: int
    completion_tokens_details: TokenDetails


class ReplyMessage(ResponseModel):
    """The answer with its steps, and what the search did."""

    role: Literal["assistant"] = "assistant"
    content: str
    """The steps behind the answer and the answer in `\\boxed{}`, as Markdown."""
    refusal: None = None
    reasoning: str
    """What the search did, in the order in which it happened."""
    reasoning_content: str
    """The same text, under the name that older clients read."""


class Choice(ResponseModel):
    """The one choice."""

    index: Literal[0] = 0
    message: ReplyMessage
    logprobs: None = None
    finish_reason: FinishReason


class ChatCompletion(ResponseModel):
    """The response without streaming."""

    id: str
    """`chatcmpl-` and the id of the search, which `POST /solve/{id}/cancel` takes."""
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    """Seconds since 1970."""
    model: str
    system_fingerprint: str
    """Names and hashes of policy and PPM."""
    choices: list[Choice]
    usage: CompletionUsage
    search: SolveResponse
    """The response that `POST /solve` would have given."""


class Model(ResponseModel):
    """A model that requests may name."""

    id: str
    object: Literal["model"] = "model"
    created: int
    """When the server was started, in seconds since 1970."""
    owned_by: str


class ModelList(ResponseModel):
    """All models: one."""

    object: Literal["list"] = "list"
    data: list[Model]


class ErrorObject(ResponseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    """The field, such as `messages[0].content`."""
    code: str | None


class ErrorBody(ResponseModel):
    """The body of every error below `/v1`."""

    error: ErrorObject
