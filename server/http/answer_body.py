"""Answer body: a finished search's response as JSON. A long one is made beside the event loop, which serves others."""

import asyncio

from server.http.schemas import SolveResponse
from server.http.wire import json_bytes, json_bytes_by_pieces


async def answer_body(response: SolveResponse) -> bytes:
    """One line of UTF-8."""
    if response.tree is None:
        return json_bytes(response.payload())
    return await asyncio.to_thread(lambda: json_bytes_by_pieces(response.payload()))
