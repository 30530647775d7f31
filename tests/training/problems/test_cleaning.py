"""Cleaning: equal problems are kept once, and problems that an evaluation set knows are left out, rule by rule."""

import time

import pytest

from training.problems.cleaning import RUN_WORDS, Rule, decontaminated, deduplicated, normalised
from training.problems.problem import GENERATOR, Problem
from training.recipe import Label

LONG = "A train leaves the old station at noon and drives with {} km an hour. How far is it at 3 o'clock?"


def problem(question: str, name: str = "a", *, source: str = "file.json", label: Label = Label.EXACT) -> Problem:
    return Problem(id=name, group="g", question=question, answer="1", source=source, label=label)


def rule_of(training: Problem, *evaluation: Problem) -> Rule | None:
    found = decontaminated([training], {"test": list(evaluation)})
    overlaps = found.overlaps["test"]
    assert bool(overlaps) is not bool(found.kept)
    return overlaps[0].rule if overlaps else None


def test_normalised_ignores_case_spacing_and_quotes() -> None:
    assert normalised(" Janet’s  ducks\n“eat”") == normalised('janet\'s ducks "eat"')


def test_one_problem_of_each_text_is_kept_in_order() -> None:
    problems = [problem("1 + 1?", "a"), problem("2?", "b"), problem("1  + 1?", "c"), problem("3?", "d")]
    kept, duplicates = deduplicated(problems)
    assert [one.id for one in kept] == ["a", "b", "d"]
    assert [(one.problem.id, one.rule, one.other.id) for one in duplicates] == [("c", Rule.EQUAL_TEXT, "a")]


def test_the_same_object_twice_is_kept_once() -> None:
    one = problem("1 + 1?")
    assert deduplicated([one, one]).kept == [one]


def test_of_equal_texts_the_exact_label_is_kept() -> None:
    problems = [problem("?", "a", label=Label.AGREED), problem("?", "b"), problem("?", "c")]
    kept, duplicates = deduplicated(problems)
    assert [one.id for one in kept] == ["b"]
    assert [one.problem.id for one in duplicates] == ["a", "c"]


@pytest.mark.parametrize(
    ("training", "evaluation", "rule"),
    [
        ("What is 3 + 4?", "what  is 3 + 4?", Rule.EQUAL_TEXT),
        ("What is 3 + 4?", "What is 12 + 1,000.5?", Rule.OTHER_NUMBERS),
        ("What is 3 + 4?", "What is 3 - 4?", None),
        (LONG.format(80), "Later on, " + LONG.format("90 or 95"), Rule.SHARED_RUN),
        (LONG.format(80), "The train leaves the old station at noon and drives on.", None),  # 9 words
        (LONG.format(80), "Ah, a train leaves, the OLD station at noon and drives on.", Rule.SHARED_RUN),  # 10
    ],
)
def test_a_problem_overlaps_by_the_strongest_rule(training: str, evaluation: str, rule: Rule | None) -> None:
    assert rule_of(problem(training), problem(evaluation, "e")) is rule


def test_generated_problems_share_templates_by_design() -> None:
    generated = problem(LONG.format(80), source=GENERATOR)
    assert rule_of(generated, problem(LONG.format(90), "e", source=GENERATOR)) is None
    assert rule_of(generated, problem(LONG.format(80), "e", source=GENERATOR)) is Rule.EQUAL_TEXT
    assert rule_of(generated, problem(LONG.format(90), "e")) is Rule.OTHER_NUMBERS
    assert rule_of(problem(LONG.format(90)), problem(LONG.format(80), "e", source=GENERATOR)) is Rule.OTHER_NUMBERS


def test_a_phrase_of_the_evaluation_set_is_no_overlap() -> None:
    phrase = " Please reason step by step, and put your final answer within a box."
    evaluation = [problem(f"Question {'x' * k}?{phrase}", str(k)) for k in range(30)]
    assert rule_of(problem("Another question." + phrase), *evaluation) is None
    assert rule_of(problem("Another question." + phrase), *evaluation[:3]) is Rule.SHARED_RUN
    mixed = evaluation[:5] + [problem(f"{'y' * k}?", str(k)) for k in range(50)]
    assert rule_of(problem("Another question." + phrase), *mixed) is Rule.SHARED_RUN


def test_an_overlap_is_counted_in_every_set_that_knows_it() -> None:
    sets = {"one": [problem("1 + 1?", "e")], "two": [problem("2 + 2?", "f")], "three": [problem("x?", "g")]}
    found = decontaminated([problem("1 + 1?"), problem("y?", "b")], sets)
    assert [one.id for one in found.kept] == ["b"]
    assert {name: [one.rule for one in some] for name, some in found.overlaps.items()} == {
        "one": [Rule.EQUAL_TEXT],
        "two": [Rule.OTHER_NUMBERS],
        "three": [],
    }


def test_a_short_text_has_no_runs() -> None:
    short = " ".join(f"word{letter}" for letter in "abcdefghi")
    assert len(short.split()) == RUN_WORDS - 1
    assert rule_of(problem(short + " here"), problem(short + " there", "e")) is None


@pytest.mark.slow
def test_20_000_against_5_000_problems_take_seconds() -> None:
    texts = [LONG.format(k).replace("train", f"train{k % 997}") + f" And {k} more? " * 4 for k in range(25_000)]
    problems = [problem(text, str(k)) for k, text in enumerate(texts)]
    began_s = time.process_time()
    decontaminated(deduplicated(problems[:20_000]).kept, {"test": problems[20_000:]})
    assert time.process_time() - began_s < 30  # 4 s were measured; a quadratic rule takes hours
