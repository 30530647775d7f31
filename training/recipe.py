"""Recipes: every setting of a run of self-evolution, read from TOML and checked before anything starts.

A recipe is named (`smoke`, `nano`, `smol`, `paper`: files in `training/recipes`) or is the path of a TOML file. Its
comments give the source of each number. A setting that is left out has the paper's value, where the paper states one.
"""

import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from search import Values

RECIPES = Path(__file__).parent / "recipes"


class RecipeError(Exception):
    """The recipe cannot be used; the message names the setting and says what was expected."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Label(StrEnum):
    """How far the known answer of a problem can be trusted."""

    EXACT = "exact"
    """Stated by people or by the generator of the problem."""
    AGREED = "agreed"
    """The answer that most solutions of a model agreed on."""


class ProblemSource(_Settings):
    """Where problems come from: exactly one of `families`, `file` and `dataset`."""

    families: Literal["all"] | tuple[str, ...] | None = None
    """Families of reasoning-gym."""
    counts: dict[str, PositiveInt] = Field(default_factory=dict)
    """Families with a number of their own, instead of `count`."""
    file: Path | None = None
    """JSON list or JSON lines with `problem` (or `question`) and `answer`."""
    dataset: str | None = None
    """Hugging Face data set: a local folder, or with internet a name."""
    subset: str | None = None
    """Configuration of the data set."""
    split: str = "train"
    """Split of the data set. Families have splits of their own: one for each of train, validation and test."""
    count: PositiveInt | None = None
    """Problems at most, per family or of the file or data set; None: all. Of a file or data set, a hash of the id
    chooses, so that a sorted one gives a fair sample."""
    portion: Literal["all", "held_out", "rest"] = "all"
    """Of a file or data set without a validation split: held_out is one problem in ten, by a hash of the id."""
    label: Label = Label.EXACT

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if sum(source is not None for source in (self.families, self.file, self.dataset)) != 1:
            raise ValueError("name exactly one of families, file and dataset")
        if self.families is not None and self.count is None:
            raise ValueError("families need a count: the generator never ends")
        return self


class Agreement(_Settings):
    """The filter of synthetic problems: those with the label `agreed` (the paper, section 4)."""

    solutions: PositiveInt = 10
    at_least: PositiveInt = 3
    """Solutions that must agree; the answer they agree on becomes the label."""


class Problems(_Settings):
    """Problems to train on, to decide by, and to report on. Training never sees the others."""

    train: tuple[ProblemSource, ...]
    validation: tuple[ProblemSource, ...]
    test: tuple[ProblemSource, ...]
    further: dict[Annotated[str, Field(pattern=r"^[\w-]+$")], tuple[ProblemSource, ...]] = Field(default_factory=dict)
    """Further test sets by name, on which only the first and the last models are measured."""
    apart_from: tuple[ProblemSource, ...] = ()
    """Further evaluation sets that the training problems must not overlap with."""
    agreement: Agreement = Agreement()


class Lora(_Settings):
    """Low-rank adapters in place of full fine-tuning."""

    rank: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Training(_Settings):
    """How one model is trained."""

    epochs: PositiveFloat = 1.0
    learning_rate: PositiveFloat
    schedule: Literal["linear", "cosine", "trapezoid"] = "linear"
    """How the rate falls after the warm-up; trapezoid: constant, then linear over the last `decay` of the run."""
    warmup: float = Field(default=0.03, ge=0, lt=1)
    """Share of the run with a rising rate."""
    decay: float = Field(default=0.25, gt=0, le=1)
    """Share of the run with a falling rate, under `trapezoid`."""
    weight_decay: float = Field(default=0.01, ge=0)
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: Muon for the hidden matrices and AdamW for the rest; for training from scratch."""
    batch_tokens: PositiveInt | None = None
    """Tokens of one forward pass at most, padding included."""
    batch_examples: PositiveInt | None = None
    """Examples, or pairs, of one forward pass."""
    accumulate: PositiveInt = 1
    """Forward passes per update, of all processes together."""
    max_length: PositiveInt = 4096
    """Examples with more tokens are left out, never cut."""
    lora: Lora | None = None
    """None: all weights are trained."""
    auxiliary: float = Field(default=0.0, ge=0)
    """Weight of the loss on every token of a solution (reward models; arXiv 2312.09241)."""
    held_out: float = Field(default=0.1, ge=0, lt=1)
    """Share of the problems whose examples only measure the model (reward models)."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the products; weights and their updates are float32 always. On one processor without AMX a model of 3.5
    million parameters took 1.5 times as long per pass in bfloat16."""
    recompute: bool = False
    """Compute activations again in the backward pass instead of keeping them: slower, in much less memory."""
    launch: tuple[str, ...] | None = None
    """Arguments of `accelerate launch`, which then starts the processes that train; None: this process trains."""
    checkpoint_s: PositiveFloat = 120.0
    """Seconds between checkpoints: what a killed training loses at most."""

    @model_validator(mode="after")
    def _has_one_batch_size(self) -> Self:
        if (self.batch_tokens is None) == (self.batch_examples is None):
            raise ValueError("give exactly one of batch_tokens and batch_examples")
        return self

    @model_validator(mode="after")
    def _shards_whole_models_only(self) -> Self:
        if self.lora is not None and "--use_fsdp" in (self.launch or ()):
            raise ValueError("lora does not go with --use_fsdp: launch it without, or train all weights")
        return self


class Bootstrap(_Settings):
    """The policy that makes the rollouts of round 1."""

    kind: Literal["start", "teacher", "solutions", "few_shot"]
    """start: the start model as it is. teacher: trained on solutions of the scripted teacher. solutions: trained on the
    solutions in `file`. few_shot: the instruct model `model`, prompted by examples."""
    file: Path | None = None
    """Solutions as JSON lines of `training.records.Trajectory`."""
    model: str | None = None
    families: tuple[str, ...] = ()
    """Families that the teacher solves; none: all."""
    demonstrations: PositiveInt = 9_000
    """Problems per family that the teacher solves."""
    demonstrations_of: dict[str, PositiveInt] = Field(default_factory=dict)
    """Families with another number."""
    training: Training | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        needs = {"teacher": ("training",), "solutions": ("training", "file"), "few_shot": ("model",), "start": ()}
        if missing := [name for name in needs[self.kind] if getattr(self, name) is None]:
            raise ValueError(f"bootstrap of kind {self.kind} needs {' and '.join(missing)}")
        return self


class Pass(_Settings):
    """One sweep of rollouts over the training problems."""

    trajectories: PositiveInt
    """Of each tree."""
    trees: PositiveInt = 1
    """New trees per problem, each with a seed of its own."""
    only: Literal["all", "unsolved"] = "all"
    """unsolved: problems without a right trajectory in this round so far."""


class Round(_Settings):
    """One round of self-evolution."""

    values: Values
    """terminal_guided in rounds 1 and 2, ppm in 3 and 4 (the paper, section 3)."""
    candidates: PositiveInt
    """Per expansion."""
    passes: tuple[Pass, ...] = Field(min_length=1)
    drop_doubtful: bool = False
    """Leave out problems with an `agreed` label that less than half of the trajectories reach (the paper's round 4)."""


class Search(_Settings):
    """What all searches share, those of the evaluation too."""

    max_depth: PositiveInt = 16
    exploration: float = Field(default=2.0, ge=0)
    temperature: PositiveFloat = 1.0
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_step_tokens: PositiveInt = 256


class Examples(_Settings):
    """What is read off the trees to learn from."""

    solutions: PositiveInt = 2
    """Right trajectories per problem for the policy, by mean Q."""
    per_side: PositiveInt = 2
    """Positives and negatives per node for the PPM."""
    margin: float = Field(default=0.0, ge=0, le=2)
    """Least difference in Q between a positive and a negative (the published code: 0.5; the paper: none)."""
    perturbed: NonNegativeInt = 0
    """Changes per problem to a right step, of one number or operator or of two variables. Those that spoil the result
    give pairs for the PPM."""
    earlier_rounds: NonNegativeInt = 0
    """Rounds before this one whose trees reward models learn from again (the paper: none)."""
    demonstrations: Literal["none", "unsolved"] = "none"
    """unsolved: the bootstrap's demonstration stands in for problems that no round has solved yet."""


class Engine(_Settings):
    """What runs the models of searches."""

    backend: Literal["torch", "vllm"] = "torch"
    processes: PositiveInt = 2
    """Each has engines of its own. One for vllm."""
    concurrency: PositiveInt = 48
    """Searches at once in each process: together they keep the engine's batch full."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Which is faster depends on the processor: measure. On one without AMX the products of bfloat16 took 1.5 times as
    long or more. float32 with one process and concurrency 1 repeats a run exactly."""


class Evaluation(_Settings):
    """How the models of a round are measured."""

    validation_trajectories: PositiveInt = 16
    """Budget on the validation problems, which promotion reads."""
    tolerance: float = Field(default=0.01, ge=0, lt=1)
    """A round's models are refused where they solve fewer validation problems than any before, by more than this share:
    a smaller loss may be chance."""

    trajectories: PositiveInt = 64
    """Of one MCTS with the first and the best models; smaller budgets are read off its answers on the way."""
    further_trajectories: PositiveInt = 16
    """The same on further test sets."""
    candidates: PositiveInt = 8
    matrix_trajectories: PositiveInt = 8
    """Budget of each policy with each PPM."""
    matrix_problems: PositiveInt = 400
    """Test problems for each policy with each PPM."""
    rival_problems: PositiveInt = 1_000
    """Test problems for each of the reward models that the PPM is compared with."""


class Recipe(_Settings):
    """All of it."""

    name: str
    seed: int = 1
    start: str
    """scratch; bundle (the bundled policy); or a model: a folder, or with internet a name."""
    base: Literal["start", "bootstrap"]
    """The model from which the fine-tuning of every round begins."""
    bootstrap: Bootstrap
    problems: Problems
    rounds: tuple[Round, ...] = Field(min_length=1)
    search: Search = Search()
    examples: Examples = Examples()
    policy: Training
    ppm: Training
    baselines: tuple[Literal["pqm", "orm"], ...] = ("pqm", "orm")
    """Reward models that are trained on the trees that the best PPM learnt from, for comparison."""
    engine: Engine = Engine()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.rounds[0].values is Values.PPM:
            raise ValueError("rounds[0] has values ppm, and there is no PPM before round 1: use terminal_guided")
        if self.start == "scratch" and (self.bootstrap.kind != "teacher" or self.base != "bootstrap"):
            raise ValueError("start scratch needs a bootstrap of kind teacher, and base bootstrap")
        if self.bootstrap.kind == "few_shot" and self.base != "start":
            raise ValueError("bootstrap of kind few_shot needs base start: its model does not know the step format")
        if self.examples.demonstrations == "unsolved" and self.bootstrap.kind != "solutions":
            raise ValueError("demonstrations unsolved needs a bootstrap of kind solutions, whose file holds them")
        return self


def read_recipe(name: str) -> Recipe:
    """A recipe by name or path. Raises `RecipeError`."""
    file = RECIPES / f"{name}.toml" if "/" not in name and not name.endswith(".toml") else Path(name)
    try:
        content = tomllib.loads(file.read_text())
    except OSError as error:
        known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.toml")))
        raise RecipeError(f"no recipe {name}: {error}; known are {known}, or give the path of a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{file} is no valid TOML: {error}") from error
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, found['loc'])) or 'recipe'}: {found['msg']}" for found in error.errors()
        )
        raise RecipeError(f"{file}: {problems}") from error
