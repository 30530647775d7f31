"""A replica in a process of its own, to be killed or stopped: it leads one search, which blocks after some calls.

    python replica.py REDIS_URL CALLS

Writes `blocked` once its search waits for a policy that does not answer. At SIGUSR1 the policy answers; then it writes
the stop reason of the search, and how many trajectories of its tree it found.
"""

import asyncio
import signal
import sys
from collections.abc import Sequence

from pydantic import SecretStr

from search import Candidate, Path
from search.testing.fakes import ArithmeticPolicy
from server.parts.fakes import fake_parts, opening
from server.settings.settings import Settings
from server.solving.searches import FinishedSearch, SearchRequest
from tests.server.serving import a_request, serve

TRAJECTORIES = 24


def shared_request() -> SearchRequest:
    """The request of all replicas."""
    options = {"parallel_rollouts": 1, "stop_when_decided": False, "candidates": 6}
    return a_request("3+4+5+6+7+8", trajectories=TRAJECTORIES, search=options, cache="use")


class BlockingPolicy:
    """Answers so many calls, and the next ones only once the gate is open."""

    def __init__(self, calls: int) -> None:
        self.calls = calls
        self.policy = ArithmeticPolicy(error_rate=0.5)
        self.blocked, self.gate = asyncio.Event(), asyncio.Event()

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        if self.calls == 0:
            self.blocked.set()
            await self.gate.wait()
        else:
            self.calls -= 1
        return await self.policy.propose(path, n, seed=seed)


async def main(url: str, calls: int) -> None:
    """Lead the search."""
    policy = BlockingPolicy(calls)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, policy.gate.set)
    async with serve(opening(fake_parts(policy=policy)), settings=Settings(redis_url=SecretStr(url))) as served:
        running = served.solver.start(shared_request(), search_id="1")
        running.watch()
        await policy.blocked.wait()
        sys.stdout.write("blocked\n")
        sys.stdout.flush()
        ending = await running.ending()
        assert isinstance(ending, FinishedSearch)
        sys.stdout.write(f"{ending.result.stop_reason} {ending.result.usage.cached_trajectories}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
