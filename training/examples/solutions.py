"""Solutions: the right trajectories that the policy is fine-tuned on (rStar-Math, section 3.4).

Of each problem those of highest mean Q, over all its trees. A program counts once, however it is spaced and commented,
and a different program is preferred to a near-copy of a better one. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from search import Tree
from training.examples.evidence import RIGHT, Lineage, mean_value, merge, trajectories
from training.examples.programs import are_near_copies, canonical, program_of
from training.problems.problem import Problem
from training.recipe import Examples
from training.records import Trajectory


def solutions(problem: Problem, trees: Sequence[Tree], settings: Examples, *, source: str) -> list[Trajectory]:
    """The best solutions of one problem, best first; every code step of them ran. Ties: the first found."""
    ranked = sorted(trajectories(merge(trees), answering=RIGHT), key=mean_value, reverse=True)
    found = (_trajectory(problem, lineage, source) for lineage in ranked)
    return _varied(list(_distinct(found)), settings.solutions)


def with_fallbacks(
    problem_ids: Iterable[str],
    rounds: Sequence[Mapping[str, Sequence[Trajectory]]],
    demonstrations: Mapping[str, Sequence[Trajectory]],
    settings: Examples,
) -> list[Trajectory]:
    """Solutions of each problem: of the newest of `rounds` that has some, else the bootstrap's demonstrations.

    `rounds` are newest first. Demonstrations are used only where the recipe wants them, and only right ones.
    """
    chosen: list[Trajectory] = []
    for problem_id in problem_ids:
        found = next((solved[problem_id] for solved in rounds if solved.get(problem_id)), None)
        if found is None and settings.demonstrations == "unsolved":
            found = list(_demonstrated(demonstrations.get(problem_id, ())))
        chosen += (found or ())[: settings.solutions]
    return chosen


def _demonstrated(demonstrations: Iterable[Trajectory]) -> Iterator[Trajectory]:
    """The teacher makes mistakes on purpose; its source names only its strategy."""
    return (replace(one, source=f"demonstration: {one.source}") for one in demonstrations if one.is_right)


def _trajectory(problem: Problem, lineage: Lineage, source: str) -> Trajectory:
    *code, end = lineage
    output, answer = code[-1].path.steps[-1].output, end.nodes[0].answer
    assert output is not None, "an answer follows the end of the code"
    assert answer is not None
    return Trajectory(
        problem_id=problem.id,
        group=problem.group,
        question=problem.question,
        steps=tuple(step.text for step in end.path.steps[:-1]),
        output=output,
        answer=answer,
        is_right=True,
        source=source,
    )


def _distinct(found: Iterable[Trajectory]) -> Iterator[Trajectory]:
    """The first of each program."""
    seen: set[str] = set()
    for trajectory in found:
        program = canonical(program_of(trajectory.steps))
        if program not in seen:
            seen.add(program)
            yield trajectory


def _varied(ranked: Sequence[Trajectory], count: int) -> list[Trajectory]:
    """The first `count`, near-copies of a chosen one only where nothing else is left."""
    chosen: list[Trajectory] = []
    near: list[Trajectory] = []
    for trajectory in ranked:
        program = program_of(trajectory.steps)
        if any(are_near_copies(program, program_of(other.steps)) for other in chosen):
            near.append(trajectory)
        else:
            chosen.append(trajectory)
    return [*chosen, *near][:count]
