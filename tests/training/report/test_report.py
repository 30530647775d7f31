"""The report of a run: Markdown, flat figures and plots; a run that has just begun has one too."""

import json
from pathlib import Path

from tests.training.report.a_run import write_run
from training.report.report import write_report


def test_a_whole_run_has_every_section_figure_and_plot(tmp_path: Path) -> None:
    write_run(tmp_path, problems=20)
    write_report(tmp_path)
    document = (tmp_path / "report.md").read_text()
    assert document.startswith("# Run of the recipe made\n")
    assert document.count("\n## ") == 10
    assert "The best models are those of round 2." in document
    figures = json.loads((tmp_path / "report.json").read_text())
    assert all(isinstance(value, int | float | str) for value in figures.values())
    parts = {name.partition("/")[0] for name in figures}
    expected = (
        "coverage",
        "greedy",
        "search",
        "matrix",
        "methods",
        "groups",
        "confidence",
        "steps",
        "promotion",
        "spent",
    )
    assert set(expected) <= parts
    plots = {"coverage.png", "trajectories.png", "matrix.png", "reliability.png", "steps.png"}
    assert {file.name for file in (tmp_path / "plots").iterdir()} == plots
    assert all(f"(plots/{name})" in document for name in plots)


def test_an_empty_run_says_what_is_missing(tmp_path: Path) -> None:
    write_report(tmp_path)
    document = (tmp_path / "report.md").read_text()
    assert "No round has labels yet." in document
    assert "No policy was measured alone." in document
    assert not (tmp_path / "plots").exists()


def test_the_same_records_give_the_same_report(tmp_path: Path) -> None:
    write_run(tmp_path, problems=8)
    write_report(tmp_path)
    first = [(tmp_path / name).read_bytes() for name in ("report.md", "report.json")]
    write_report(tmp_path)
    assert [(tmp_path / name).read_bytes() for name in ("report.md", "report.json")] == first
