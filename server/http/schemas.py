"""Schemas: the JSON of requests and responses. `server.http.requests` checks the limits that operators set."""

from enum import StrEnum
from typing import Annotated, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from search import NodeOutcome, Selection, StopReason, Strategy, TreePolicy
from server.solving.searches import CancelState

MAX_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader keeps exact."""


def _whole(value: object) -> object:
    """To JSON 16.0 is an integer like any other."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, Field(ge=1, le=MAX_INTEGER), BeforeValidator(_whole)]
Seed = Annotated[int, Field(ge=0, le=MAX_INTEGER), BeforeValidator(_whole)]

_NOT_BOTH = {
    "not": {
        "required": ["effort", "trajectories"],
        "properties": {"effort": {"type": "string"}, "trajectories": {"type": "integer"}},
    }
}


class _Request(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class _Response(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Effort(StrEnum):
    """How much to spend on a problem."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class SearchOptions(_Request):
    """How to search; what is left out, or null, is the operator's default."""

    strategy: Annotated[Strategy, Field(strict=False)] = Strategy.MCTS
    """`mcts`, or one of the baselines."""
    candidates: Count | None = None
    """Candidates proposed per expansion (mcts, step_beam)."""
    depth: Count | None = None
    """Steps of a trajectory at most, the answer included."""
    exploration: Annotated[float, Field(ge=0)] | None = None
    """c of UCT and PUCT (mcts)."""
    tree_policy: Annotated[TreePolicy, Field(strict=False)] = TreePolicy.UCT
    """How a rollout chooses among the children of a node (mcts): `uct`, or `puct` with the policy's probabilities."""
    parallel_rollouts: Count | None = None
    """Rollouts in flight at once (mcts). With 1 the same request with the same seed gets the same tree."""
    beam_width: Count | None = None
    """Paths followed at once (step_beam)."""
    stop_when_decided: bool | None = None
    """Stop when no answer can overtake the leading one within the trajectories left."""
    stop_at_confidence: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Stop when the answer is this sure; null: go on."""
    selection: Annotated[Selection, Field(strict=False)] | None = None
    """How the answer is chosen; null: weighted vote for mcts and step_beam, best for best_of_n, else majority."""


class SolveRequest(_Request):
    """A problem, and what its answer may cost."""

    model_config = ConfigDict(json_schema_extra=cast("JsonDict", _NOT_BOTH))

    problem: Annotated[str, Field(min_length=1, json_schema_extra={"pattern": r"\S"})]
    """The problem in words and LaTeX; not blank."""
    trajectories: Count | None = None
    """The budget: finished lines of thought."""
    effort: Annotated[Effort, Field(strict=False)] | None = None
    """The budget in words, instead of `trajectories`; the operator says what each is worth."""
    max_tokens: Count | None = None
    """A second limit, on generated tokens, rejected candidates included; rollouts in flight are still finished."""
    timeout_s: Annotated[float, Field(gt=0)] | None = None
    """Wall-clock time from the request's arrival; the best answer so far is returned when it is over."""
    temperature: Annotated[float, Field(ge=0)] | None = None
    """Of sampling candidates; 0 decides greedily. The greedy strategy always does."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the probability mass that candidates are sampled from."""
    seed: Seed = 0
    """What candidates are drawn with. The same request with the same seed gets the same answer, as far as the engine
    repeats itself and `parallel_rollouts` is 1."""
    stream: bool = False
    """Tell of the search as it goes on, as server-sent events."""
    return_tree: bool = False
    """Give the whole search tree with the answer."""
    search: SearchOptions = SearchOptions()

    @field_validator("problem")
    @classmethod
    def _check_not_blank(cls, problem: str) -> str:
        if not problem.strip():
            raise PydanticCustomError("blank", "must not be blank")
        return problem


class Step(_Response):
    """One executed code step of the path behind the answer."""

    comment: str
    """What the step says it does."""
    code: str
    output: str
    """What it printed; failing that, the value of its last expression."""
    score: float | None
    """PPM score of the path down to here, in [-1, 1]; null where the strategy does not ask the PPM."""
    value: float
    """Mean of what was backed up, in [-1, 1]."""
    visits: int


class Answer(_Response):
    """Equal answers, as the best-scored trajectory spells them."""

    answer: str
    votes: int
    weight: float
    """Sum of (1 + score) / 2 over the trajectories that vote."""
    score: float | None
    """Of the best-scored trajectory; null where none was scored."""


class TreeNode(_Response):
    """One candidate of the search tree, dead or alive; the root has no text."""

    node_id: int
    parent: int | None
    """Null for the root."""
    depth: int
    text: str
    """As the policy wrote it."""
    output: str
    """What its code printed; failing that, the value of its last expression, or the error."""
    outcome: NodeOutcome
    answer: str | None
    score: float | None
    value: float
    visits: int


class Usage(_Response):
    """What the search spent."""

    trajectories: int
    """In the tree, those from an earlier search included."""
    policy_tokens: int
    """Generated by the policy, those of candidates that were dropped included."""
    ppm_tokens: int
    """Of the paths scored by the PPM, each path as often as it was; a prefix cache runs fewer through the model."""
    ppm_calls: int
    """Paths scored."""
    code_steps: int
    cached_trajectories: int


class Timing(_Response):
    """Seconds; phases may overlap."""

    total: float
    """From the request's arrival on, waiting included."""
    queue: float
    policy: float
    sandbox: float
    ppm: float


class Models(_Response):
    """Name and content hash of each model."""

    policy: str
    ppm: str


class SolveResponse(_Response):
    """The answer, the verified steps behind it, and the receipt."""

    id: str
    """Names the search: the request's id (header X-Request-Id) and something unique."""
    answer: str | None
    """As the policy states it; null where no trajectory states one."""
    answer_latex: str | None
    """The same for display: LaTeX, without dollar signs."""
    confidence: float
    """That the answer is right, in [0, 1)."""
    stop_reason: StopReason
    steps: list[Step]
    """Code steps of the best-scored trajectory that gives the answer, from the first on."""
    answers: list[Answer]
    """Distinct answers, best first."""
    trajectories_to_answer: int | None
    """Trajectories made when the answer took the lead for good; null without one."""
    tree_id: str
    """Names the search tree: the same problem, models, seed and search options give the same id."""
    usage: Usage
    timing_s: Timing
    models: Models
    tree: list[TreeNode] | None = None
    """With `return_tree`: every node, parents before children."""


class FieldProblem(_Response):
    """What is wrong with one field."""

    field: str
    """Dotted; empty for the body as a whole."""
    pointer: str
    """The same as a JSON pointer into the body."""
    detail: str
    limit: int | float | None = None
    value: str | int | float | bool | None = None


class ProblemDetails(_Response):
    """RFC 9457 `application/problem+json`: the body of every error."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    """The path asked for."""
    request_id: str
    retry_after_s: int | None = None
    """When to come back, as in the header Retry-After, which an event of a stream cannot have."""
    errors: list[FieldProblem]


class Cancellation(_Response):
    """What became of a request to cancel."""

    id: str
    """As it was given."""
    state: CancelState
    """Of the search, or of the searches that the request began."""


class Readiness(_Response):
    """Whether the server can solve, part by part."""

    ready: bool
    parts: dict[str, str]
    """`ready`, `starting`, `draining`, or what is wrong."""
    sandbox_level: str | None
    """How well code steps are confined: `full` or `reduced`; null until the sandbox is open."""


class Health(_Response):
    """The process answers."""

    status: str


class Version(_Response):
    """What is running."""

    version: str
    models: Models | None
    """Null until the models are loaded."""
