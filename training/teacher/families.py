"""The teacher's families: which strategies apply to a problem, and one drawn by weight."""

import random
from collections.abc import Callable

from training.problems import Problem
from training.teacher import algebra, arithmetic, gsm_programs, number_theory, word_problems
from training.teacher.gsm import gsm_symbolic
from training.teacher.solution import Strategy

CONSTANTS: dict[str, frozenset[float]] = {
    **arithmetic.CONSTANTS,
    **number_theory.CONSTANTS,
    **algebra.CONSTANTS,
    **word_problems.CONSTANTS,
    "gsm_symbolic": gsm_programs.CONSTANTS,
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


def strategies(problem: Problem) -> list[Strategy]:
    """Every strategy the teacher may take on the problem, sound and flawed."""
    if problem.family == "gsm_symbolic":
        metadata = problem.entry["metadata"]
        return gsm_symbolic(problem.question, metadata["story"], metadata["variables"])
    return _BY_QUESTION[problem.family](problem.question)


def choose(problem: Problem, rng: random.Random) -> Strategy:
    """One strategy, drawn by weight."""
    options = strategies(problem)
    return rng.choices(options, weights=[option.weight for option in options])[0]
