"""The step format: renders problems, steps and program output as text for the models, when serving and training alike.

    <|user|>:\\n{problem}\\n<|assistant|>: {lead-in}<code>
    \\n# comment\\ncode\\n<end_of_step>            (any number of steps)
    \\n# comment\\ncode\\n<end_of_code>            (the last one prints the result)
    \\n<output>{output}<end_of_output>            (filled in from the sandbox)
    \\n<answer>... \\boxed{...}<end_of_answer>

The format is that of rStar-Math's released training data, so that models made by either pipeline are interchangeable.
Segments keep apart what the format itself says (special tokens are read as such) from what users and programs wrote
(special tokens are split into plain characters, so that nobody can forge one). Never tokenises.
"""

from dataclasses import dataclass

from search.outcomes import CandidateStop

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


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a rendered path."""

    text: str
    is_trusted: bool
    """True when special tokens in `text` are meant as such."""


def prompt_segments(problem: str) -> tuple[Segment, ...]:
    """What stands before the first step."""
    return (
        Segment(f"{USER}:\n", is_trusted=True),
        Segment(problem, is_trusted=False),
        Segment(f"\n{ASSISTANT}: {LEAD_IN}{CODE}", is_trusted=True),
    )


def output_segments(output: str) -> tuple[Segment, ...]:
    """What the environment inserts after the last code step."""
    return (
        Segment(f"\n{OUTPUT}", is_trusted=True),
        Segment(output, is_trusted=False),
        Segment(END_OF_OUTPUT, is_trusted=True),
    )
