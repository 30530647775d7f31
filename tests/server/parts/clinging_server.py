"""`python -m tests.server.parts.clinging_server PORT`: the command over parts of which one ignores cancellation."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import server.__main__ as command
from search.protocols import Candidate, Path
from server.parts.fakes import fake_parts
from server.parts.serving import Part, ServingParts


class ClingingPolicy:
    """Not even cancelling ends a call."""

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        sys.stdout.write("asked\n")
        sys.stdout.flush()
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()


@asynccontextmanager
async def open_clinging_parts(
    _folders: object, _settings: object, _: Callable[[Part], None]
) -> AsyncGenerator[ServingParts]:
    yield fake_parts(policy=ClingingPolicy())


if __name__ == "__main__":
    command.LAST_RESORT_S = 0.2
    command.open_local_parts = open_clinging_parts
    command.main(["--port", sys.argv[1], "--drain-s", "0"])
