"""Demonstrations: the teacher solves problems of the training split, for the base policy to learn from.

The teacher's programs are this package's own, so they run in this process; model-written code never does.
"""

import contextlib
import io
import random
from collections.abc import Iterator

from training.problems import HELD_OUT, Family, Problem, Split, held_out_texts, normalised
from training.teacher.families import choose
from training.teacher.solution import Step, Strategy, program
from training.trajectories import Trajectory


def unseen(family: Family, split: Split, count: int) -> Iterator[Problem]:
    """Of the first `count` problems of a split, those whose text is not held out."""
    held_out = held_out_texts(family, HELD_OUT)
    return (problem for problem in family.draw(split, count) if normalised(problem.question) not in held_out)


def demonstrations(family: Family, count: int, *, seed: int) -> Iterator[Trajectory]:
    """The teacher's solutions of the first `count` training problems that are not held out.

    Leaves out sound strategies that miss the label.
    """
    rng = random.Random(f"{seed}/{family.name}")
    for problem in unseen(family, Split.TRAIN, count):
        trajectory = demonstrate(family, problem, choose(problem, rng))
        if trajectory is not None:
            yield trajectory


def demonstrate(family: Family, problem: Problem, strategy: Strategy) -> Trajectory | None:
    """Solve one problem by one strategy; None if the strategy does not fit the problem after all."""
    printed = run(strategy)
    if not printed:
        return None
    is_right = family.is_right(printed, problem)
    if not is_right and not strategy.is_flawed:
        return None
    return Trajectory(
        problem_id=problem.id,
        family=family.name,
        question=problem.question,
        steps=tuple(step_text(step) for step in strategy.steps),
        output=printed,
        answer=printed,
        is_right=is_right,
        source=strategy.name,
    )


def step_text(step: Step) -> str:
    """A step as the policy writes it."""
    return f"\n# {step.comment}\n{step.code}\n"


def run(strategy: Strategy) -> str | None:
    """What the strategy's program prints; None if it fails."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(program(strategy), {"__name__": "__main__"})
    except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError):
        return None
    return printed.getvalue().strip()
