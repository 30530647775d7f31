"""A recorder that keeps spans in a list, for tests of what is recorded."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from server.observability.trace_context import TraceContext, new_trace_context
from server.observability.tracing import Attribute


@dataclass(slots=True)
class Taken:
    """A span as the recorder below keeps it."""

    name: str
    parent: TraceContext | None
    context: TraceContext
    attributes: dict[str, Attribute]
    is_request: bool
    errors: list[BaseException | None] = field(default_factory=list[BaseException | None])

    def rename(self, name: str) -> None:
        self.name = name

    def note(self, attributes: Mapping[str, Attribute]) -> None:
        self.attributes |= attributes

    def end(self, error: BaseException | None = None) -> None:
        self.errors.append(error)


@dataclass(slots=True)
class ListRecorder:
    """Keeps spans in a list."""

    spans: list[Taken] = field(default_factory=list[Taken])

    def start(
        self, name: str, *, parent: TraceContext | None, attributes: Mapping[str, Attribute], is_request: bool = False
    ) -> Taken:
        trace_id = new_trace_context().trace_id if parent is None else parent.trace_id
        context = TraceContext(trace_id=trace_id, span_id=f"{len(self.spans) + 1:016x}", flags=1)
        taken = Taken(name, parent, context, dict(attributes), is_request)
        self.spans.append(taken)
        return taken

    @property
    def names(self) -> list[str]:
        return [taken.name for taken in self.spans]
