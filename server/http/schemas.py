"""Schemas: the JSON of requests and responses. `server.http.requests` checks the limits that operators set."""

from enum import StrEnum
from typing import Annotated, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from search import NodeOutcome, Selection, StopReason, Strategy, TreePolicy
from server.solving.searches import CacheUse, CancelState

MAX_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader keeps exact."""


def _whole(value: object) -> object:
    """In JSON 16.0 is an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, Field(ge=1, le=MAX_INTEGER), BeforeValidator(_whole)]
Seed = Annotated[int, Field(ge=0, le=MAX_INTEGER), BeforeValidator(_whole)]

_NOT_BLANK = r"[^\s\x1c-\x1f\x85]"
"""Of the characters that Python strips, the `\\s` of JSON Schema lacks the last five."""
_NOT_BOTH = {
    "not": {
        "required": ["effort", "trajectories"],
        "properties": {"effort": {"type": "string"}, "trajectories": {"type": "integer"}},
    }
}


class RequestModel(BaseModel):
    """A part of a request: exact types, no unknown fields."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class ResponseModel(BaseModel):
    """A part of a response."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Effort(StrEnum):
    """How much to spend on a problem."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class SearchOptions(RequestModel):
    """How to search. A field that is left out or null gets the operator's default."""

    strategy: Annotated[Strategy, Field(strict=False)] = Strategy.MCTS
    """`mcts`, or one of the baselines."""
    candidates: Count | None = None
    """Candidates that the policy proposes per expansion (mcts, step_beam)."""
    depth: Count | None = None
    """Most steps of a trajectory, the answer included."""
    exploration: Annotated[float, Field(ge=0)] | None = None
    """c of UCT and PUCT (mcts)."""
    tree_policy: Annotated[TreePolicy, Field(strict=False)] = TreePolicy.UCT
    """How a rollout chooses among the children of a node (mcts): `uct`, or `puct`, which weighs in the policy's
    probabilities."""
    parallel_rollouts: Count | None = None
    """Rollouts in flight at once (mcts). With 1, the same request and seed give the same tree."""
    beam_width: Count | None = None
    """Paths followed at once (step_beam)."""
    stop_when_decided: bool | None = None
    """Stop when no answer can overtake the leading one within the trajectories left."""
    stop_at_confidence: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Stop when the confidence reaches this, fitted or not as in the response; null: never."""
    selection: Annotated[Selection, Field(strict=False)] | None = None
    """How the answer is chosen. Null: weighted vote for mcts and step_beam, best for best_of_n, else majority."""


class SolveRequest(RequestModel):
    """A problem, and what its answer may cost."""

    model_config = ConfigDict(json_schema_extra=cast("JsonDict", _NOT_BOTH))

    problem: Annotated[str, Field(min_length=1, json_schema_extra={"pattern": _NOT_BLANK})]
    """The problem in words and LaTeX; not blank."""
    trajectories: Count | None = None
    """The budget: the number of finished trajectories."""
    effort: Annotated[Effort, Field(strict=False)] | None = None
    """The budget in words, instead of `trajectories`. The operator sets the number for each."""
    max_tokens: Count | None = None
    """A second limit: generated tokens, rejected candidates included. Rollouts in flight are still finished."""
    timeout_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds from the request's arrival. The best answer so far is returned when they are over."""
    temperature: Annotated[float, Field(ge=0)] | None = None
    """Sampling temperature of candidates; 0 is greedy. The strategy `greedy` always uses 0."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the probability mass that candidates are sampled from (nucleus sampling)."""
    seed: Seed = 0
    """Seed of the sampling. The same request and seed give the same answer if `parallel_rollouts` is 1 and the engine
    is deterministic."""
    stream: bool = False
    """Send the events of the search as server-sent events."""
    return_tree: bool = False
    """Return the whole search tree with the answer."""
    cache: Annotated[CacheUse, Field(strict=False)] = CacheUse.USE
    """`use`: answer from the stored tree of an earlier search of the same problem, or go on from it. `refresh`: search
    anew and store that tree instead. `bypass`: search anew and store nothing."""
    search: SearchOptions = SearchOptions()

    @field_validator("problem")
    @classmethod
    def _check_not_blank(cls, problem: str) -> str:
        if not problem.strip():
            raise PydanticCustomError("blank", "must not be blank")
        return problem


class Step(ResponseModel):
    """One executed code step of the path behind the answer."""

    comment: str
    """The comment above the code."""
    code: str
    output: str
    """What it printed; if nothing, the value of its last expression."""
    score: float | None
    """PPM score of the path down to this step, in [-1, 1]; null if the strategy does not use the PPM."""
    value: float
    """Mean of the backed-up values, in [-1, 1]."""
    visits: int


class Answer(ResponseModel):
    """A class of equal answers, in the words of its best-scored trajectory."""

    answer: str
    votes: int
    weight: float
    """Sum of (1 + score) / 2 over its votes."""
    score: float | None
    """Score of the best-scored trajectory; null if none was scored."""


class TreeNode(ResponseModel):
    """One node of the search tree, failed candidates included. The root has no text."""

    node_id: int
    parent: int | None
    """Null for the root."""
    depth: int
    text: str
    """The candidate as the policy wrote it."""
    output: str
    """What its code printed; if nothing, the value of its last expression, or the error."""
    outcome: NodeOutcome
    answer: str | None
    score: float | None
    value: float
    visits: int


class Usage(ResponseModel):
    """What this request cost. A tree that was found in the cache costs nothing."""

    trajectories: int
    """Finished trajectories in the tree, those of earlier searches included."""
    policy_tokens: int
    """Tokens that the policy generated, dropped candidates included."""
    ppm_tokens: int
    """Tokens of the scored paths, each counted as often as it was scored. A prefix cache lets the model read fewer."""
    ppm_calls: int
    """Paths that the PPM scored."""
    code_steps: int
    cached_trajectories: int
    """Trajectories that the request found in the tree. If they are all, the answer came from the cache."""


class Timing(ResponseModel):
    """Seconds; phases may overlap."""

    total: float
    """From the request's arrival to the result, the queue included."""
    queue: float
    policy: float
    sandbox: float
    ppm: float


class Models(ResponseModel):
    """Name and content hash of each model."""

    policy: str
    ppm: str


class SolveResponse(ResponseModel):
    """The answer, the executed steps behind it, and what the search cost."""

    id: str
    """Names the search: the request's id (header X-Request-Id), a hyphen and a random part."""
    answer: str | None
    """The answer as the policy states it; null if no trajectory states one."""
    answer_latex: str | None
    """The answer as LaTeX, without dollar signs."""
    confidence: float
    """How sure the search is that the answer is right, in [0, 1)."""
    confidence_fitted: bool
    """Whether the confidence was fitted to these models, for this strategy and selection. Then, of the answers with
    0.8, about 80 % were right on the problems of the fit. Otherwise the confidence is the vote share of the answer."""
    stop_reason: StopReason
    steps: list[Step]
    """Code steps of the best-scored trajectory that gives the answer, in order."""
    answers: list[Answer]
    """Distinct answers, best first."""
    trajectories_to_answer: int | None
    """Trajectories finished when the answer took the lead for good; null without an answer."""
    tree_id: str
    """Names the search tree. The same problem, models, seed and search options give the same id."""
    usage: Usage
    timing_s: Timing
    models: Models
    tree: list[TreeNode] | None = None
    """Every node, parents before children; only with `return_tree`."""


class FieldProblem(ResponseModel):
    """What is wrong with one field."""

    field: str
    """Path of the field with dots, such as `search.depth`; empty for the body as a whole."""
    pointer: str
    """The field as a JSON pointer into the body."""
    detail: str
    limit: int | float | None = None
    value: str | int | float | bool | None = None


class ProblemDetails(ResponseModel):
    """RFC 9457 `application/problem+json`: the body of every error."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    """The path of the request."""
    request_id: str
    retry_after_s: int | None = None
    """Seconds after which to retry, as in the header Retry-After. Events of a stream have no headers."""
    errors: list[FieldProblem]


class Cancellation(ResponseModel):
    """The response to a request to cancel."""

    id: str
    """The id that was given."""
    state: CancelState
    """The state of the search, or of the searches that the request began."""


class Readiness(ResponseModel):
    """Whether the server can solve problems, part by part."""

    ready: bool
    parts: dict[str, str]
    """`ready`, `starting`, `draining`, or the fault."""
    sandbox_level: str | None
    """How well code steps are confined: `full` or `reduced`; null until the sandbox is started."""


class Health(ResponseModel):
    """The process answers."""

    status: str


class Version(ResponseModel):
    """The version of the server and its models."""

    version: str
    models: Models | None
    """Null until the models are loaded."""
    confidence_fitted: bool | None
    """Whether there is a fit of the confidence for these models. Null until they are loaded."""
