"""The few-shot prompt: its examples are true, and written in the step format."""

import contextlib
import io

import pytest

from search.format import SPECIAL_TOKENS, output_segments, prompt_segments
from server.engines.fewshot.prompt import EXAMPLES, INSTRUCTION, WorkedExample, conversation, plain_frame


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_prints_what_it_says(example: WorkedExample) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec("\n".join(example.steps), {})
    assert printed.getvalue().strip() == example.output
    assert f"\\boxed{{{example.output}}}" in example.answer


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_what_the_step_format_renders(example: WorkedExample) -> None:
    *first, last = (f"\n{step}\n" for step in example.steps)
    rendered = [
        *(segment.text for segment in prompt_segments(example.problem)),
        *(f"{step}<end_of_step>" for step in first),
        f"{last}<end_of_code>",
        *(segment.text for segment in output_segments(example.output)),
        f"\n<answer>{example.answer}<end_of_answer>",
    ]
    assert "".join(rendered) in plain_frame().before


@pytest.mark.parametrize("mark", [mark for mark in SPECIAL_TOKENS if "|" not in mark])
def test_the_instruction_explains_every_mark(mark: str) -> None:
    assert mark in INSTRUCTION


def test_turns_alternate_and_end_with_the_problem() -> None:
    turns = conversation("What now?")
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * len(EXAMPLES) + ["user"]
    assert turns[-1]["content"] == "What now?"
    assert turns[0]["content"].startswith(INSTRUCTION)
    assert turns[0]["content"].endswith(EXAMPLES[0].problem)
