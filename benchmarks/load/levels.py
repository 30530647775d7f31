"""Levels: the same requests from 1, 4, 16 and 64 clients at once; the cost of each level and of each node."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

import httpx

from benchmarks.load.requests import Body, Ending, Seen, keep_asking
from benchmarks.load.server_process import ServerProcess

CLIENTS = (1, 4, 16, 64)

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The figures of one level."""

    clients: int
    seen: Sequence[Seen]
    wall_s: float
    nodes: float
    server_cpu_s: float
    """CPU time of the server process."""
    all_cpu_s: float
    """CPU time of the server and the sandbox."""

    def figures(self) -> dict[str, float]:
        """The figures by name."""
        answered = [one for one in self.seen if one.ending is Ending.ANSWERED]
        trajectories = sum(one.trajectories for one in answered)
        return {
            "requests": len(self.seen),
            "not_answered": len(self.seen) - len(answered),
            "lost_events": sum(one.lost_events for one in answered),
            "first_byte_p50_s": percentile([one.first_byte_s or one.whole_s for one in answered], 50),
            "first_event_p50_s": percentile([one.first_event_s or one.whole_s for one in answered], 50),
            "first_event_p95_s": percentile([one.first_event_s or one.whole_s for one in answered], 95),
            "whole_p50_s": percentile([one.whole_s for one in answered], 50),
            "whole_p95_s": percentile([one.whole_s for one in answered], 95),
            "requests_per_s": len(answered) / self.wall_s,
            "trajectories": trajectories,
            "trajectories_per_s": trajectories / self.wall_s,
            "nodes_per_request": self.nodes / len(self.seen),
            "server_cpu_us_per_node": 1e6 * self.server_cpu_s / max(1.0, self.nodes),
            "cpu_us_per_node": 1e6 * self.all_cpu_s / max(1.0, self.nodes),
        }


async def run_level(
    server: ServerProcess, reader: httpx.AsyncClient, bodies: Sequence[Body], *, clients: int, cpu_s: Clock
) -> Level:
    """Send each body once. `cpu_s` counts the server with everything that it started."""
    before = await server.read(reader)
    began_s, began_cpu_s, began_all_s = time.monotonic(), server.cpu_s(), cpu_s()
    seen = await keep_asking(server.url, bodies, clients=clients)
    wall_s, server_cpu_s, all_cpu_s = time.monotonic() - began_s, server.cpu_s() - began_cpu_s, cpu_s() - began_all_s
    after = await server.read(reader)
    return Level(
        clients=clients,
        seen=seen,
        wall_s=wall_s,
        nodes=after["rstar_nodes_total"] - before["rstar_nodes_total"],
        server_cpu_s=server_cpu_s,
        all_cpu_s=all_cpu_s,
    )


def percentile(values: Sequence[float], percent: int) -> float:
    """A percentile of the values; 0 if there are none."""
    if len(values) < 2:
        return values[0] if values else 0.0
    return median(values) if percent == 50 else quantiles(values, n=100, method="inclusive")[percent - 1]
