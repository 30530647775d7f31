"""Report: writes report.md, report.json and plots/ of a run from its records, as far as they are there."""

import logging
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.evaluation.summary import library_versions
from training.records import write_json
from training.report import confidence, rounds, searches
from training.report.records import RunRecords, read_run
from training.report.section import Figures, Section

logger = logging.getLogger(__name__)

SECTIONS: tuple[Callable[[RunRecords], Section], ...] = (
    rounds.coverage,
    rounds.policies,
    searches.trajectories,
    searches.matrix,
    searches.methods,
    searches.groups,
    confidence.calibration,
    confidence.steps,
    rounds.promotions,
    rounds.spent,
)
"""In the order of the report."""


def write_report(run: Path) -> None:
    """Write the report of the run in this folder; an older one is replaced."""
    records = read_run(run)
    sections = [make(records) for make in SECTIONS]
    figures: Figures = {"machine": f"{platform.machine()} {platform.system()}", **library_versions()}
    for section in sections:
        figures |= section.figures
        for name, draw in section.plots.items():
            draw(run / "plots" / name)
    document = "\n".join([_head(records), *(section.document for section in sections)])
    (run / "report.md").write_text(document)
    write_json(run / "report.json", figures)
    logger.info("report: %s", run / "report.md")


def _head(records: RunRecords) -> str:
    recipe: dict[str, Any] = records.about.get("recipe", {})
    name = recipe.get("name", "without a name")
    best = records.best_round
    lines = [
        f"# Run of the recipe {name}\n",
        f"Seed {recipe.get('seed', 'unknown')}. {_libraries(records)}",
        "Intervals are 95 % bootstrap intervals over problems, and differences are paired.",
    ]
    if best is not None:
        lines.append(f"The best models are those of round {best}.")
    if changes := records.about.get("changes"):
        lines.append(
            f"The run went on {len(changes)} times after code, recipe or libraries had changed; `changes` in run.json, "
            "or in the manifest.json of a release, names them."
        )
    return "\n".join(lines) + "\n"


def _libraries(records: RunRecords) -> str:
    libraries: dict[str, str] = records.about.get("libraries", {})
    return ", ".join(f"{library} {version}" for library, version in libraries.items()) + "." if libraries else ""
