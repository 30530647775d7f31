"""The step format: problems, steps, program output and answers as text for the models, when serving and training alike.

    <|user|>:\\n{problem}\\n<|assistant|>: {lead-in}<code>
    \\n# comment\\ncode\\n<end_of_step>            (any number of steps)
    \\n# comment\\ncode\\n<end_of_code>            (the last one prints the result)
    \\n<output>{output}<end_of_output>            (filled in from the sandbox)
    \\n<answer>... \\boxed{...}<end_of_answer>

The format is that of rStar-Math's released training data, so that models made by either pipeline are interchangeable. A
segment is either trusted or not. Special tokens in a trusted segment are read as such. Text from users and programs is
not trusted: a special token in it is split into plain characters, so that such text cannot forge one. This module never
tokenises.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from search.outcomes import CandidateStop
from search.protocols import Execution

FORMAT_VERSION = 1
"""Raised whenever a path would be rendered in another way: trees from before are not gone on with."""

USER = "<|user|>"
ASSISTANT = "<|assistant|>"
CODE = "<code>"
END_OF_STEP = "<end_of_step>"
END_OF_CODE = "<end_of_code>"
OUTPUT = "<output>"
END_OF_OUTPUT = "<end_of_output>"
ANSWER = "<answer>"
END_OF_ANSWER = "<end_of_answer>"

SPECIAL_TOKENS = (USER, ASSISTANT, CODE, END_OF_STEP, END_OF_CODE, OUTPUT, END_OF_OUTPUT, ANSWER, END_OF_ANSWER)

LEAD_IN = "Let's think step by step and solve the problem with code."

STOP_TOKENS: dict[str, CandidateStop] = {
    END_OF_STEP: CandidateStop.END_OF_STEP,
    END_OF_CODE: CandidateStop.END_OF_CODE,
    END_OF_ANSWER: CandidateStop.END_OF_ANSWER,
}

MAX_OBSERVATION_CHARS = 2000
"""Long enough for every printed answer; a flood of text would only push the problem out of the models' context."""

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_UNBRACED = re.compile(r"[^\s{}$\\]+")


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a rendered path."""

    text: str
    is_trusted: bool
    """True when special tokens in `text` are meant as such."""


def prompt_segments(problem: str) -> tuple[Segment, ...]:
    """The text before the first step."""
    return (
        Segment(f"{USER}:\n", is_trusted=True),
        Segment(problem, is_trusted=False),
        Segment(f"\n{ASSISTANT}: {LEAD_IN}{CODE}", is_trusted=True),
    )


def output_segments(output: str) -> tuple[Segment, ...]:
    """The text inserted after the last code step."""
    return (
        Segment(f"\n{OUTPUT}", is_trusted=True),
        Segment(output, is_trusted=False),
        Segment(END_OF_OUTPUT, is_trusted=True),
    )


def observation(executions: Sequence[Execution]) -> str:
    """The output shown to the models once a path's code has ended, and the only place that derives it.

    It is what the executed steps of one code block printed, in order; if they printed nothing, the last step's value.
    The executions themselves keep the output unshortened.
    """
    printed = "".join(execution.stdout for execution in executions).rstrip()
    if not printed and executions:
        printed = (executions[-1].value or "").rstrip()
    return printed[:MAX_OBSERVATION_CHARS].rstrip()


def extract_boxed(text: str) -> str | None:
    """The content of the last \\boxed{} of a text, stripped; None where that box is missing, empty or never closed.

    A box without braces, `\\boxed 5`, holds what follows up to the next space. A box around a box counts as one: the
    inner content is the answer.
    """
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    start = boxes[-1].end()
    if text[start : start + 1] == "{":
        end = _closing_brace(text, start)
        content = text[start + 1 : end] if end is not None else ""
    else:
        unbraced = _UNBRACED.match(text, start)
        content = unbraced[0].rstrip(".,;") if unbraced else ""
    return content.strip() or None


def _closing_brace(text: str, start: int) -> int | None:
    """Position of the brace that closes the one at `start`; an escaped character is neither."""
    depth = 0
    position = start
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1
        else:
            depth += (character == "{") - (character == "}")
            if depth == 0:
                return position
        position += 1
    return None
