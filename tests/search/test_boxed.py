"""Finding the boxed answer in a text."""

import pytest

from search.format import extract_boxed


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{5}", "5"),
        (r"The answer is $\boxed{ \frac{1}{2} }$.", r"\frac{1}{2}"),
        (r"\boxed{\frac{\sqrt{3}}{2}}", r"\frac{\sqrt{3}}{2}"),
        (r"First \boxed{1}, then \boxed{2}.", "2"),
        ("Six times seven is 42.\nWe have checked this. So it is\n\\boxed{42}.\nDone.", "42"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
        (r"\boxed{a \\ b}", r"a \\ b"),
        (r"\boxed 5", "5"),
        (r"So $\boxed 5$.", "5"),
        (r"\boxed {x+1}", "x+1"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\fbox{7}", "7"),
        (r"\boxed{}", None),
        (r"\boxed{  }", None),
        (r"\boxed{1} and \boxed{}", None),
        (r"\boxed{\frac{1}{2}", None),
        (r"\boxed{1\}", None),
        (r"\boxed", None),
        (r"\boxedtext{5}", None),
        ("no box here", None),
        ("", None),
    ],
)
def test_the_last_box_is_the_answer(text: str, answer: str | None) -> None:
    assert extract_boxed(text) == answer


def test_a_very_long_unclosed_box_is_no_answer_and_takes_no_long_time() -> None:
    assert extract_boxed("\\boxed{" * 20_000 + "{" * 100_000) is None
