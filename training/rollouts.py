"""Rollouts: searches training problems against their labels, pass by pass, and keeps every tree.

A right answer is worth +1 and a wrong one -1, whatever the PPM thinks of it (rStar-Math, section 3.2). A problem can
have several trees, each with a seed of its own; they are numbered in the order of the passes.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from search import Budget, SearchConfig, Tree, Values, load, save
from training.examples.labels import count_outcomes
from training.problems.grader import Grader
from training.problems.problem import Problem
from training.recipe import Engine, Round, Search
from training.searcher import Searcher, open_searcher
from training.workers import Result, Results, run_work


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A tree to be made."""

    problem: Problem
    number: int
    """Counts the trees of the problem in this round."""
    trajectories: int

    @property
    def key(self) -> str:
        """Names the tree within the round."""
        return _key(self.problem.id, self.number)


@dataclass(frozen=True, slots=True)
class LabelJudge:
    """Knows the label: +1 for a right answer, -1 for a wrong one."""

    grader: Grader
    problem: Problem

    async def value(self, answer: str) -> float:
        """See `search.Judge`."""
        return 1.0 if await self.grader.is_right(self.problem, answer) else -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RollOut:
    """The work of making one tree."""

    policy: Path
    ppm: Path | None
    """Read only where the values of the round are those of the PPM."""
    settings: Round
    search: Search
    engine: Engine
    seed: int

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Callable[[Wanted], Awaitable[Result]]]:
        """See `training.workers.Work`."""
        ppm = self.ppm if self.settings.values is Values.PPM else None
        async with open_searcher(self.policy, ppm, engine=self.engine, settings=self.search) as searcher:
            yield partial(self.make_tree, searcher=searcher, grader=Grader(searcher.equality))

    async def make_tree(self, wanted: Wanted, *, searcher: Searcher, grader: Grader) -> Result:
        """One search against the label of the problem."""
        found = await searcher.search(
            wanted.problem.question,
            config=SearchConfig(
                candidates=self.settings.candidates,
                max_depth=self.search.max_depth,
                exploration=self.search.exploration,
                values=self.settings.values,
            ),
            budget=Budget(trajectories=wanted.trajectories),
            seed=seed_of(self.seed, wanted.key),
            judge=LabelJudge(grader, wanted.problem),
        )
        return tree_result(wanted.problem, found.tree)


def tree_result(problem: Problem, tree: Tree) -> Result:
    """What is kept of a tree."""
    return {"right": count_outcomes(problem.id, [tree], label=problem.label).right, "tree": _packed(tree)}


def roll_out(work: RollOut, problems: Sequence[Problem], folder: Path) -> None:
    """Make all trees of a round that `folder` lacks. Raises `WorkFailed`."""
    first = 0
    for number, sweep in enumerate(work.settings.passes, start=1):
        results = Results(folder)
        chosen = [
            problem for problem in problems if sweep.only == "all" or not _is_solved(problem, results, trees=first)
        ]
        wanted = [
            Wanted(problem=problem, number=tree, trajectories=sweep.trajectories)
            for problem in chosen
            for tree in range(first, first + sweep.trees)
        ]
        run_work(
            work,
            {tree.key: tree for tree in wanted},
            folder,
            processes=work.engine.processes,
            concurrency=work.engine.concurrency,
            label=f"{folder.parent.name} rollouts, pass {number}",
        )
        first += sweep.trees


class Trees(Mapping[str, Sequence[Tree]]):
    """The trees of a round by problem id, in the order of their numbers; read from disk when asked for."""

    def __init__(self, folder: Path) -> None:
        self._results = Results(folder)
        self._keys: dict[str, list[str]] = {}
        for key in sorted(self._results, key=lambda key: int(key.rpartition("#")[2])):
            self._keys.setdefault(key.rpartition("#")[0], []).append(key)

    def __getitem__(self, problem_id: str) -> Sequence[Tree]:
        return [_unpacked(self._results[key]["tree"]) for key in self._keys[problem_id]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def seed_of(*parts: object) -> int:
    """A 64-bit seed for a thing named by `parts`: near seeds would share samples."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8], "big")


def training_seed(*parts: object) -> int:
    """A 32-bit seed, as the libraries that train models expect."""
    return seed_of(*parts) % 2**32


def _key(problem_id: str, number: int) -> str:
    return f"{problem_id}#{number}"


def _is_solved(problem: Problem, results: Results, *, trees: int) -> bool:
    """Whether one of the first `trees` trees has a right trajectory."""
    keys = (_key(problem.id, number) for number in range(trees))
    return any(results[key]["right"] for key in keys if key in results)


def _packed(tree: Tree) -> str:
    """The tree without CPU times, which differ from run to run; about a tenth of the size of its JSON."""
    for node in tree.nodes:
        if node.execution is not None:
            node.execution = replace(node.execution, cpu_seconds=0.0)
    return base64.b64encode(zlib.compress(json.dumps(save(tree), separators=(",", ":")).encode())).decode()


def _unpacked(packed: str) -> Tree:
    return load(json.loads(zlib.decompress(base64.b64decode(packed))))
