"""The number of files that a reader opens to follow one request has a limit; the benchmark prints the number."""

import pytest

from benchmarks.request_files import executed_files


@pytest.mark.slow
def test_one_request_executes_at_most_40_files() -> None:
    files = [name for name in executed_files() if not name.startswith("sandbox/")]
    assert "search/mcts.py" in files
    assert len(files) <= 40, files
