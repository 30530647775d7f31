# pyright: basic
"""The few-shot prompt: asks any instruct model for steps in our format, by rule and by worked example.

The second format beside `search.format`: the same marks, but as plain text, for models that were never trained on them.
The examples' programs print the outputs given here. The model's own chat template wraps the prompt. The problem does
not pass through the template: it is inserted afterwards, as untrusted text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path as FilePath

import jinja2
from transformers import AutoTokenizer

from search.format import (
    ANSWER,
    ASSISTANT,
    CODE,
    END_OF_ANSWER,
    END_OF_CODE,
    END_OF_OUTPUT,
    END_OF_STEP,
    LEAD_IN,
    OUTPUT,
    USER,
)
from server.engines.errors import CheckpointError

_PLACEHOLDER = "THE-PROBLEM-STANDS-HERE"

INSTRUCTION = f"""Solve the mathematics problem by a Python program that you write step by step.
- Start with {CODE}. A step is a comment that says what is done and why, and a few lines of Python that do it.
- End every step with {END_OF_STEP}. Later steps go on from the variables of the earlier ones. Use exact numbers \
(integers, fractions, sympy) wherever they exist, and no input, files or network.
- The last step prints the result and ends with {END_OF_CODE} instead.
- The program is then run for you, and its output shown between {OUTPUT} and {END_OF_OUTPUT}. Never write that yourself.
- Then write {ANSWER}, one sentence that gives the result as \\boxed{{...}}, and {END_OF_ANSWER}."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkedExample:
    """A problem with a model solution."""

    problem: str
    steps: tuple[str, ...]
    output: str
    answer: str

    def text(self) -> str:
        """The solution as a model should write it, with the output filled in."""
        code = f"\n{END_OF_STEP}".join(f"\n{step}" for step in self.steps)
        shown = f"\n{OUTPUT}{self.output}{END_OF_OUTPUT}"
        return f"{LEAD_IN}{CODE}{code}\n{END_OF_CODE}{shown}\n{ANSWER}{self.answer}{END_OF_ANSWER}"


_SPEED = """# Add the two distances and the two times; the time in hours stays exact as a fraction
from fractions import Fraction

distance_km = 18 + 12
time_h = Fraction(50 + 40, 60)

---
# The average speed is the whole distance over the whole time, not the mean of two speeds
speed = distance_km / time_h

---
# Print the final answer
print(speed)"""

_CUBES = """# Solve the equation exactly
import sympy

x = sympy.symbols("x")
solutions = sympy.solve(x**2 - 3 * x + 1, x)

---
# Cube both solutions and simplify their sum, in which the roots cancel
total = sympy.simplify(sum(solution**3 for solution in solutions))

---
# Print the final answer
print(total)"""

EXAMPLES = (
    WorkedExample(
        problem="A cyclist rides 18 km in 50 minutes and then 12 km in 40 minutes. What is her average speed in km/h?",
        steps=tuple(_SPEED.split("\n\n---\n")),
        output="20",
        answer="Her average speed is $\\boxed{20}$ km/h.",
    ),
    WorkedExample(
        problem="What is the sum of the cubes of the two solutions of $x^2 - 3x + 1 = 0$?",
        steps=tuple(_CUBES.split("\n\n---\n")),
        output="18",
        answer="The sum of the cubes is $\\boxed{18}$.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The text around the problem; all of it is trusted."""

    before: str
    after: str
    """Up to and including the mark that opens the code."""


def conversation(problem: str) -> Sequence[Mapping[str, str]]:
    """The prompt as messages of a chat; the instruction stands in the first, since some models know no system."""
    texts = [text for example in EXAMPLES for text in (example.problem, example.text())]
    texts = [f"{INSTRUCTION}\n\n{texts[0]}", *texts[1:], problem]
    return [{"role": role, "content": text} for role, text in zip(cycle(("user", "assistant")), texts, strict=False)]


def plain_frame() -> Frame:
    """The prompt for a model without a chat template: the examples one after the other, marked as in training."""
    solved = "".join(f"{USER}:\n{example.problem}\n{ASSISTANT}: {example.text()}\n\n" for example in EXAMPLES)
    return Frame(before=f"{INSTRUCTION}\n\n{solved}{USER}:\n", after=f"\n{ASSISTANT}: {LEAD_IN}{CODE}")


def frame_of(folder: FilePath) -> Frame:
    """Frame by the template in the model's folder, or the plain frame. Raises `CheckpointError`."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder}: transformers cannot read the tokenizer ({error})") from error
    if not tokenizer.chat_template:
        return plain_frame()
    try:
        # A model that thinks first would use up its tokens before the first step; other templates ignore the switch.
        text = tokenizer.apply_chat_template(
            conversation(_PLACEHOLDER), tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
    except jinja2.TemplateError as error:
        raise CheckpointError(
            f"{folder}: the chat template refuses a conversation of user and model ({error})"
        ) from error
    before, found, after = str(text).partition(_PLACEHOLDER)
    if not found or _PLACEHOLDER in after:
        raise CheckpointError(f"{folder}: the chat template does not show the problem exactly once")
    return Frame(before=before, after=f"{after}{LEAD_IN}{CODE}")
