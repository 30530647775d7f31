"""Collection: every part is clean of the parts it must not know, and the same recipe gives the same files."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from training.problems.collect import collect
from training.problems.files import ProblemFileError
from training.problems.problem import read_problems
from training.recipe import Label, Problems, ProblemSource

NOUNS = ["cats", "dogs", "birds", "cows", "pigs", "goats", "hens", "ducks", "bees", "ants"]


def source(folder: Path, name: str, questions: Iterable[str], **settings: object) -> ProblemSource:
    file = folder / name
    records = [{"id": f"p{place}", "problem": question, "answer": place} for place, question in enumerate(questions)]
    file.write_text("\n".join(map(json.dumps, records)) + "\n")
    return ProblemSource.model_validate({"file": file, **settings})


def questions(folder: Path, part: str) -> list[str]:
    return [problem.question for problem in read_problems(folder / f"{part}.jsonl")]


def test_parts_are_deduplicated_and_kept_apart(tmp_path: Path) -> None:
    settings = Problems(
        train=(
            source(tmp_path, "a.jsonl", ["7 cats?", "7 cows?", "7 dogs?", "7 pigs?", "7 hens?"]),
            source(tmp_path, "b.jsonl", ["7 COWS?", "7 ants?", "7 bees?"]),
        ),
        validation=(source(tmp_path, "c.jsonl", ["7 cats?", "8 ducks?", "9 cats?"]),),
        test=(source(tmp_path, "d.jsonl", ["5 ducks?", "5 dogs?"]),),
        further={"hard": (source(tmp_path, "e.jsonl", ["1 pigs?"]),)},
        apart_from=(source(tmp_path, "f.jsonl", ["2 bees?"]),),
    )
    collect(settings, tmp_path / "run")
    assert questions(tmp_path / "run", "train") == ["7 cows?", "7 hens?", "7 ants?"]
    assert questions(tmp_path / "run", "validation") == ["7 cats?", "9 cats?"]
    assert questions(tmp_path / "run", "test") == ["5 ducks?", "5 dogs?"]
    assert questions(tmp_path / "run", "further/hard") == ["1 pigs?"]
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["train"]["read"] == {"a.jsonl": 5, "b.jsonl": 3}
    assert report["train"]["duplicates"]["count"] == 1
    assert report["train"]["overlaps"]["further/hard: e.jsonl"]["other_numbers"]["count"] == 1
    assert report["train"]["overlaps"]["apart_from: f.jsonl"]["other_numbers"]["count"] == 1
    assert report["validation"]["left_out_for_overlaps"] == 1


def test_an_id_that_two_files_use_is_numbered(tmp_path: Path) -> None:
    settings = Problems(
        train=(source(tmp_path, "a.jsonl", ["cats?", "dogs?"]), source(tmp_path, "b.jsonl", ["cows?", "dogs?"])),
        validation=(source(tmp_path, "c.jsonl", ["pigs?"]),),
        test=(source(tmp_path, "d.jsonl", ["hens?"]),),
    )
    collect(settings, tmp_path / "run")
    ids = [
        problem.id
        for part in ("train", "validation", "test")
        for problem in read_problems(tmp_path / "run" / f"{part}.jsonl")
    ]
    assert ids == ["p0", "p1", "p0~2", "p0~3", "p0~4"]


def test_a_file_is_divided_by_a_hash_and_a_count_samples_it(tmp_path: Path) -> None:
    everything = [f"{first} and {second}?" for first in NOUNS for second in NOUNS]
    file = source(tmp_path, "a.jsonl", everything)
    settings = Problems(
        train=(file.model_copy(update={"portion": "rest", "count": 40}),),
        validation=(file.model_copy(update={"portion": "held_out"}),),
        test=(source(tmp_path, "b.jsonl", ["none of them?"]),),
    )
    collect(settings, tmp_path / "run")
    train, validation = questions(tmp_path / "run", "train"), questions(tmp_path / "run", "validation")
    assert len(train) == 40
    assert train != everything[:40]
    assert train == sorted(train, key=everything.index)
    assert 3 <= len(validation) <= 20
    assert not set(train) & set(validation)


def test_only_synthetic_problems_may_lack_answers(tmp_path: Path) -> None:
    unanswered = tmp_path / "synthetic.jsonl"
    unanswered.write_text('{"problem": "cats?"}\n')
    validation, test = source(tmp_path, "c.jsonl", ["pigs?"]), source(tmp_path, "d.jsonl", ["hens?"])
    settings = Problems(train=(ProblemSource(file=unanswered),), validation=(validation,), test=(test,))
    with pytest.raises(ProblemFileError, match="no answer"):
        collect(settings, tmp_path / "run")
    synthetic = ProblemSource(file=unanswered, label=Label.AGREED)
    collect(settings.model_copy(update={"train": (synthetic,)}), tmp_path / "run")
    assert [problem.label for problem in read_problems(tmp_path / "run" / "train.jsonl")] == [Label.AGREED]


def test_a_part_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    file = source(tmp_path, "a.jsonl", ["cats?"])
    with pytest.raises(ProblemFileError, match="no train problem is left"):
        collect(Problems(train=(file,), validation=(file,), test=(file,)), tmp_path / "run")


def test_a_count_for_a_family_that_is_not_drawn_is_refused(tmp_path: Path) -> None:
    families = ProblemSource(families=("gcd",), count=5, counts={"gdc": 2})
    with pytest.raises(ProblemFileError, match="counts name gdc, which is not among gcd"):
        collect(Problems(train=(families,), validation=(families,), test=(families,)), tmp_path)


@pytest.mark.slow
def test_families_give_each_part_its_split_and_the_same_bytes(tmp_path: Path) -> None:
    settings = Problems(
        train=(ProblemSource(families=("gcd", "prime_factorization"), count=30, counts={"gcd": 20}),),
        validation=(ProblemSource(families=("gcd",), count=6),),
        test=(ProblemSource(families=("gcd",), count=5),),
    )
    for run in ("one", "two"):
        collect(settings, tmp_path / run)
    files = ("train.jsonl", "validation.jsonl", "test.jsonl", "report.json")
    assert {file.name for file in (tmp_path / "one").iterdir()} == set(files)
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)
    train = [problem.id.rpartition("/")[0] for problem in read_problems(tmp_path / "one" / "train.jsonl")]
    assert train == ["gcd/search"] * 20 + ["prime_factorization/search"] * 30
    assert [problem.id for problem in read_problems(tmp_path / "one" / "test.jsonl")] == [
        f"gcd/test/{k}" for k in range(5)
    ]
    assert all("gcd/validation" in problem.id for problem in read_problems(tmp_path / "one" / "validation.jsonl"))
