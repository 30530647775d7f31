"""Demonstrations: the teacher solves problems of the training split, for the base policy to learn from.

A strategy that applies to the problem is drawn by weight. The teacher's programs are this package's own, so they run in
this process; model-written code never does.
"""

import contextlib
import io
import random
from collections.abc import Callable, Iterator

from training.problems.families import Family, Split, unseen
from training.problems.problem import Problem
from training.records import Trajectory
from training.teacher import algebra, arithmetic, gsm, number_theory, word_problems
from training.teacher.solution import Step, Strategy, program

CONSTANTS: dict[str, frozenset[float]] = {
    **arithmetic.CONSTANTS,
    **number_theory.CONSTANTS,
    **algebra.CONSTANTS,
    **word_problems.CONSTANTS,
    "gsm_symbolic": gsm.CONSTANTS,
}
"""Numbers that belong to a family's methods rather than to its problems."""

_BY_QUESTION: dict[str, Callable[[str], list[Strategy]]] = {
    "chain_sum": arithmetic.chain_sum,
    "basic_arithmetic": arithmetic.basic_arithmetic,
    "decimal_arithmetic": arithmetic.decimal_arithmetic,
    "products": arithmetic.products,
    "power_function": arithmetic.power_function,
    "complex_arithmetic": arithmetic.complex_arithmetic,
    "gcd": number_theory.gcd,
    "lcm": number_theory.lcm,
    "prime_factorization": number_theory.prime_factorization,
    "fraction_simplification": number_theory.fraction_simplification,
    "count_primes": number_theory.count_primes,
    "base_conversion": number_theory.base_conversion,
    "simple_equations": algebra.simple_equations,
    "polynomial_equations": algebra.polynomial_equations,
    "simple_integration": algebra.simple_integration,
    "number_sequence": algebra.number_sequence,
    "leg_counting": word_problems.leg_counting,
    "simple_geometry": word_problems.simple_geometry,
    "time_intervals": word_problems.time_intervals,
}


def demonstrations(family: Family, count: int, *, seed: int) -> Iterator[Trajectory]:
    """The teacher's solutions of the first `count` training problems that are not held out.

    Leaves out sound strategies that miss the label.
    """
    rng = random.Random(f"{seed}/{family.name}")
    for problem in unseen(family, Split.TRAIN, count):
        trajectory = demonstrate(family, problem, choose(family, problem, rng))
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
        group=family.name,
        question=problem.question,
        steps=tuple(step_text(step) for step in strategy.steps),
        output=printed,
        answer=printed,
        is_right=is_right,
        source=strategy.name,
    )


def strategies(family: Family, problem: Problem) -> list[Strategy]:
    """Every strategy that applies to the problem, sound and flawed."""
    if family.name == "gsm_symbolic":
        metadata = family.entry(problem)["metadata"]
        options = gsm.gsm_symbolic(problem.question, metadata["story"], metadata["variables"])
    else:
        options = _BY_QUESTION[family.name](problem.question)
    return [option for option in options if option.applies]


def choose(family: Family, problem: Problem, rng: random.Random) -> Strategy:
    """One strategy, drawn by weight."""
    options = strategies(family, problem)
    return rng.choices(options, weights=[option.weight for option in options])[0]


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
