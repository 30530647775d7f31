"""`python -m server.replay FILE`: runs a recorded search again, without models or sandbox, and prints its result.

The record comes from a server with RSTAR_RECORD_FOLDER. Exit status 0 when the search went as recorded, 1 when it went
another way (the code has changed), 2 when the file is no record.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from search import RecordFormatError, Replay, ReplayMismatch, read_record, replay_record, save


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m server.replay", description="run a recorded search again")
    parser.add_argument("file", type=Path, help="a record, <search id>.jsonl")
    parser.add_argument("--tree", type=Path, help="also write the whole tree here, as JSON")
    options = parser.parse_args(arguments)
    try:
        with options.file.open(encoding="ascii") as file:
            record = read_record(file)
        replay = asyncio.run(replay_record(record))
    except (OSError, UnicodeDecodeError, RecordFormatError) as error:
        return _fail(f"{options.file}: {error}", status=2)
    except ReplayMismatch as error:
        return _fail(f"{options.file}: {error}", status=1)
    if options.tree is not None:
        options.tree.write_text(json.dumps(save(replay.tree), indent=1), encoding="utf-8")
    sys.stdout.write(_summary(replay))
    return 0


def _summary(replay: Replay) -> str:
    tree = replay.tree
    lines = [f"problem: {tree.problem}", f"nodes: {len(tree.nodes)}, trajectories: {tree.trajectories}"]
    if replay.result is None:
        lines.append(f"the search failed: {replay.error}")
    else:
        lines.append(f"stop reason: {replay.result.stop_reason}")
        lines += [f"answer: {group.answer}   {group.votes} votes" for group in replay.result.answers]
    return "\n".join(lines) + "\n"


def _fail(reason: str, *, status: int) -> int:
    print(f"rstar: {reason}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
