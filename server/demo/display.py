"""The demo's terminal output: a running search and its result. Text from models is never read as markup."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from server.http.schemas import SolveResponse
from server.http.streams import ServerEvent

_SHOWN_LINES = 6
"""Lines of a step: a fixed number, so that the display does not jump."""
_SHOWN_CHARS = 500
"""Characters of a problem."""


@dataclass(slots=True)
class LiveSearch:
    """The progress of one search, as rich shows it."""

    budget: int = 0
    trajectories: int = 0
    nodes: int = 0
    answer: str | None = None
    confidence: float = 0.0
    latest_step: str = ""

    def update(self, event: ServerEvent) -> None:
        """Take in one event of the stream."""
        match event:
            case ServerEvent("search_started", {"trajectories": int(budget)}):
                self.budget = budget
            case ServerEvent("node", {"text": str(text)}):
                self.nodes += 1
                self.latest_step = text
            case ServerEvent("trajectory", _):
                self.trajectories += 1
            case ServerEvent("answer_changed", {"answer": str(answer), "confidence": float(confidence)}):
                self.answer, self.confidence = answer, confidence
            case _:
                pass

    def __rich__(self) -> RenderableType:
        """Called by rich at each refresh."""
        table = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=max(self.budget, 1), completed=self.trajectories, width=32)
        nodes = "1 node" if self.nodes == 1 else f"{self.nodes} nodes"
        table.add_row("trajectories", bar, f"{self.trajectories} of {self.budget}, {nodes}")
        if self.answer is not None:
            table.add_row("answer so far", Text(self.answer, style="bold"), f"confidence {self.confidence:.2f}")
        lines = self.latest_step.strip().splitlines()[:_SHOWN_LINES]
        lines += [""] * (_SHOWN_LINES - len(lines))
        return Group(table, Panel(Text("\n".join(lines)), title="latest step", title_align="left"))


def starting_text(parts: Mapping[str, str]) -> str:
    """One line that names the parts which are not ready."""
    awaited = [
        part if state == "starting" else f"{part} ({state})" for part, state in parts.items() if state != "ready"
    ]
    return "Starting the server" + (f": waiting for {', '.join(awaited)}" if awaited else "")


def show_problem(console: Console, question: str) -> None:
    """Show the problem before its search; a long one is cut."""
    shown = question if len(question) <= _SHOWN_CHARS else f"{question[:_SHOWN_CHARS]}… ({len(question)} characters)"
    console.print(Rule(style="dim"))
    console.print(Text("Problem: ", style="bold").append(shown, style="not bold"))


def show_response(console: Console, response: SolveResponse) -> None:
    """Show the steps behind the answer, then the answer."""
    for number, step in enumerate(response.steps, start=1):
        score = "" if step.score is None else f"   score {step.score:+.2f}"
        console.print(Text(f"\nStep {number}. {step.comment}", style="cyan").append(score, style="dim"))
        console.print(Syntax(step.code, "python", background_color="default", word_wrap=True))
        if step.output:
            console.print(Text("  → ", style="green").append(step.output))
    usage = response.usage
    noun = "trajectory" if usage.trajectories == 1 else "trajectories"
    console.print(
        Text(
            f"\n{usage.trajectories} {noun}, {usage.policy_tokens} tokens, {usage.code_steps} steps run, "
            f"{usage.ppm_calls} scores, {response.timing_s.total:.1f} s",
            style="dim",
        )
    )
    if response.answer is None:
        console.print(Text("No answer: no trajectory states one.", style="yellow"))
        return
    cast = sum(group.votes for group in response.answers)
    votes = f"   confidence {response.confidence:.2f}, {response.answers[0].votes} of {cast} votes"
    console.print(Text("Answer: ", style="bold").append(response.answer, style="bold green").append(votes, style="dim"))
