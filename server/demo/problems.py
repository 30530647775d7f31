"""Demo problems: what the demo solves when it is given no other. The first test problem of two families."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoProblem:
    """A problem with its known answer."""

    question: str
    answer: str
    origin: str
    """Family, split and index of the problem."""
    seed: int = 0
    """What the search draws its candidates with."""


DEMO_PROBLEMS = (
    DemoProblem(
        question=(
            "Ava went to the cafe and bought various types of treats. She bought 5 dozen donuts which cost $16 per "
            "dozen, 10 dozen tarts which cost $83 per dozen, and 6 dozen brownies for $116 per dozen. How much was the "
            "total cost? Give the result as your final answer. Do not include units."
        ),
        answer="1606",
        origin="gsm_symbolic/test/0",
        seed=2,  # one of the 16 seeds among 0 to 19 with which the bundled models get it right; 0 is not
    ),
    DemoProblem(
        question="Determine the value of y that satisfies: 85 - 83*y = -6389",
        answer="78",
        origin="simple_equations/test/0",
    ),
)
