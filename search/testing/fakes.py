"""Typed fakes of every part, for tests of the search and of everything built on it. Deterministic, without waiting.

Scripted fakes return given values. The arithmetic fakes make a small world in which a whole search runs: problems are
sums such as "3+4+5", and each step adds the next number. Some steps are wrong, some crash, and the answer is the
program's printed result.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from search.calls import PolicyCall
from search.expansion import request_seed
from search.format import ANSWER
from search.outcomes import CandidateStop, ExecutionOutcome, Verdict
from search.protocols import Candidate, Execution, Judge, Parts, Path, Snapshot

PathKey = tuple[str, ...]
"""The texts of a path's steps."""


def path_key(path: Path) -> PathKey:
    """The key of a path in the scripts of the fakes."""
    return tuple(step.text for step in path.steps)


def candidate(text: str, stop: CandidateStop, *, tokens: int = 4, logprob: float = -1.0) -> Candidate:
    """A candidate of `tokens` tokens."""
    return Candidate(text=text, token_ids=tuple(range(tokens)), logprob=logprob, stop=stop)


def step(code: str, *, tokens: int = 4, logprob: float = -1.0) -> Candidate:
    """A code step after which more code follows."""
    return candidate(f"\n{code}\n", CandidateStop.END_OF_STEP, tokens=tokens, logprob=logprob)


def last_step(code: str, *, tokens: int = 4, logprob: float = -1.0) -> Candidate:
    """The code step that ends the code."""
    return candidate(f"\n{code}\n", CandidateStop.END_OF_CODE, tokens=tokens, logprob=logprob)


def answer(value: str, *, wording: str = "The answer is", tokens: int = 4, logprob: float = -1.0) -> Candidate:
    """An answer step."""
    text = f"\n{ANSWER}{wording} \\boxed{{{value}}}."
    return candidate(text, CandidateStop.END_OF_ANSWER, tokens=tokens, logprob=logprob)


@dataclass(slots=True)
class ScriptedPolicy:
    """Proposes the first `n` of the candidates that the script has for a path."""

    script: Mapping[PathKey, Sequence[Candidate]]
    calls: list[PolicyCall] = field(default_factory=list[PolicyCall])

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        """Raises LookupError for a path that the script does not have."""
        key = path_key(path)
        self.calls.append(PolicyCall(path, n, seed))
        if key not in self.script:
            raise LookupError(f"the script has no candidates after {key!r}")
        return self.script[key][:n]


@dataclass(slots=True)
class FunctionScorer:
    """Scores each path by a function."""

    function: Callable[[Path], float]
    batches: list[tuple[PathKey, ...]] = field(default_factory=list[tuple[PathKey, ...]])

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        """Also appends to `batches`."""
        self.batches.append(tuple(path_key(path) for path in paths))
        return [self.function(path) for path in paths]


def scores_by_last_step(scores: Mapping[str, float], *, default: float = 0.0) -> FunctionScorer:
    """A scorer that looks up the last step's text, stripped of white space."""
    return FunctionScorer(lambda path: scores.get(path.steps[-1].text.strip(), default))


def hashed_score(path: Path) -> float:
    """A score that looks random, but is always the same for the same path."""
    return request_seed(0, path, draw=0) / 2**62 - 1.0


@dataclass(slots=True)
class ScriptedRunner:
    """Returns the execution that the script has for a code step, stripped of white space; else success without output.

    Snapshots are named by the codes that led to them. A snapshot that this runner never made is lost.
    """

    script: Mapping[str, Execution] = field(default_factory=dict[str, Execution])
    ran: list[tuple[Snapshot | None, str]] = field(default_factory=list[tuple[Snapshot | None, str]])
    made: set[Snapshot] = field(default_factory=set[Snapshot])

    async def run(self, parent: Snapshot | None, code: str) -> Execution:
        """Also appends to `ran`."""
        self.ran.append((parent, code.strip()))
        if parent is not None and parent not in self.made:
            return Execution(outcome=ExecutionOutcome.LOST, error="no such snapshot")
        scripted = self.script.get(code.strip(), Execution(outcome=ExecutionOutcome.OK))
        if scripted.outcome is not ExecutionOutcome.OK:
            return scripted
        snapshot = Snapshot(f"{parent or ''}/{code.strip()}")
        self.made.add(snapshot)
        return Execution(outcome=ExecutionOutcome.OK, stdout=scripted.stdout, value=scripted.value, snapshot=snapshot)


@dataclass(frozen=True, slots=True)
class StringEquality:
    """Answers are the same when their texts are; pairs in `unknown`, in either order, cannot be compared."""

    unknown: frozenset[frozenset[str]] = frozenset()

    async def same(self, a: str, b: str) -> Verdict:
        """White space around the text does not count."""
        if a.strip() == b.strip():
            return Verdict.SAME
        return Verdict.UNKNOWN if frozenset((a, b)) in self.unknown else Verdict.DIFFERENT


@dataclass(frozen=True, slots=True)
class AnswerKey:
    """A judge that compares with the one right answer."""

    right: str

    async def value(self, answer: str) -> float:
        """+1 or -1."""
        return 1.0 if answer.strip() == self.right else -1.0


@dataclass(slots=True)
class SteppingClock:
    """A clock that goes on by `step_s` each time it is read."""

    step_s: float = 1.0
    time_s: float = 0.0

    def __call__(self) -> float:
        self.time_s += self.step_s
        return self.time_s


@dataclass(frozen=True, slots=True)
class ArithmeticPolicy:
    """Adds up the numbers of the problem, one a step; with probability `error_rate` a step goes wrong somehow."""

    error_rate: float = 0.5

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        """The same arguments give the same candidates; candidates repeat now and then."""
        rng = random.Random(seed)
        return [self._propose_one(path, rng) for _ in range(n)]

    def _propose_one(self, path: Path, rng: random.Random) -> Candidate:
        numbers = [int(number) for number in path.problem.split("+")]
        done = len(path.steps)
        fails = rng.random() < self.error_rate
        if done and path.steps[-1].stop is CandidateStop.END_OF_CODE:
            printed = path.steps[-1].output or ""
            return candidate("\nno idea", CandidateStop.END_OF_ANSWER) if fails else answer(printed.strip())
        if done >= len(numbers):
            return last_step("print(total)")
        if fails:
            return self._flawed(numbers[done], done, rng)
        return step(_adding(numbers[done], done))

    def _flawed(self, number: int, done: int, rng: random.Random) -> Candidate:
        kind = rng.randrange(4)
        if kind == 0:
            return step("total = missing + 1")
        if kind == 1:
            return candidate("\ntotal = ", CandidateStop.LENGTH)
        return step(_adding(number + kind - 1, done))


def _adding(number: int, done: int) -> str:
    return f"total = total + {number}" if done else f"total = {number}"


@dataclass(slots=True)
class ArithmeticRunner:
    """Runs lines such as `name = term + term` and `print(name)`, and nothing else. Keeps states by snapshot."""

    states: dict[Snapshot, dict[str, int]] = field(default_factory=dict[Snapshot, dict[str, int]])

    async def run(self, parent: Snapshot | None, code: str) -> Execution:
        """Unknown names are errors, and so is any other syntax."""
        if parent is not None and parent not in self.states:
            return Execution(outcome=ExecutionOutcome.LOST, error="no such snapshot")
        state = dict(self.states[parent]) if parent is not None else {}
        printed: list[str] = []
        try:
            for line in code.strip().splitlines():
                _run_line(line.strip(), state, printed)
        except (NameError, SyntaxError) as error:
            return Execution(outcome=ExecutionOutcome.ERROR, error=f"{type(error).__name__}: {error}")
        snapshot = Snapshot(f"s{len(self.states)}")
        self.states[snapshot] = state
        return Execution(outcome=ExecutionOutcome.OK, stdout="".join(printed), snapshot=snapshot)


def arithmetic_parts(error_rate: float = 0.5, *, judge: Judge | None = None) -> Parts:
    """The arithmetic world, with scores that say nothing."""
    return Parts(
        policy=ArithmeticPolicy(error_rate),
        runner=ArithmeticRunner(),
        equality=StringEquality(),
        scorer=FunctionScorer(hashed_score),
        judge=judge,
    )


def _run_line(line: str, state: dict[str, int], printed: list[str]) -> None:
    if not line or line.startswith("#"):
        return
    if line.startswith("print(") and line.endswith(")"):
        printed.append(f"{_sum(line[6:-1], state)}\n")
        return
    name, equals, terms = line.partition("=")
    if not equals or not name.strip().isidentifier():
        raise SyntaxError(f"cannot read {line!r}")
    state[name.strip()] = _sum(terms, state)


def _sum(terms: str, state: Mapping[str, int]) -> int:
    return sum(_term(term.strip(), state) for term in terms.split("+"))


def _term(term: str, state: Mapping[str, int]) -> int:
    if term.isdecimal():
        return int(term)
    if not term.isidentifier():
        raise SyntaxError(f"cannot read {term!r}")
    if term not in state:
        raise NameError(f"name {term!r} is not defined")
    return state[term]
