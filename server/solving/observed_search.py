"""Observed search: runs one search on the server's parts, with metrics, spans and a record of it."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from time import monotonic

from search import Event, NodeAdded, OnEvent, Parts, SearchResult, SearchStarted, Strategy, listening, search
from server.observability.metrics import Metrics, measuring_calls
from server.observability.tracing import is_recorded, span, tracing_calls
from server.parts.serving import ServingParts
from server.solving.records import recording
from server.solving.searches import RunningSearch


async def run_observed(
    running: RunningSearch,
    parts: ServingParts,
    *,
    seconds: float,
    metrics: Metrics,
    record_folder: Path | None,
) -> SearchResult:
    """Search for at most so many seconds. Ends at once, with the best answer so far, when the search is asked to.

    With a folder the search leaves a record there.
    """
    request = running.request
    sampling = request.sampling
    if request.config.strategy is Strategy.GREEDY:
        sampling = replace(sampling, temperature=0.0, top_p=1.0)
    with span("search", {"rstar.strategy": request.config.strategy}) as searching:
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(seconds):
                runner = await stack.enter_async_context(parts.open_runner(request.seed))
            ours = Parts(policy=parts.policy(sampling), runner=runner, equality=parts.equality, scorer=parts.scorer)
            ours = listening(ours, measuring_calls(metrics, now=monotonic, on_tokens=running.count_tokens))
            ours = listening(ours, tracing_calls) if is_recorded() else ours
            record = None
            if record_folder is not None:
                record = stack.enter_context(recording(record_folder, search_id=running.id))
            result = await search(
                request.problem,
                parts=ours,
                config=request.config,
                budget=replace(request.budget, seconds=seconds),
                seed=request.seed,
                now=monotonic,
                on_event=_publisher(running, metrics),
                stop=running.stop,
                record=record,
            )
        searching.set_attributes(
            {"rstar.stop_reason": result.stop_reason, "rstar.trajectories": result.usage.trajectories}
        )
    return result


def _publisher(running: RunningSearch, metrics: Metrics) -> OnEvent:
    """Counts the events of the search and passes them on to its watchers."""
    has_candidate = False

    def publish(event: Event) -> None:
        nonlocal has_candidate
        waited_s = monotonic() - running.arrived_s
        if isinstance(event, SearchStarted):
            metrics.first_event.observe(waited_s)
        elif isinstance(event, NodeAdded) and not has_candidate:
            has_candidate = True
            metrics.first_candidate.observe(waited_s)
        metrics.event(event)
        running.publish(event)

    return publish
