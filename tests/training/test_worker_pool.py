"""Workers end with the run that started them, also when it is killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from training.worker_pool import worker_pool

ROOT = Path(__file__).parents[2]
RUN = """
import os, time
from training.worker_pool import worker_pool
if __name__ == "__main__":
    with worker_pool(2) as pool:
        print(*{future.result() for future in [pool.submit(os.getpid) for _ in range(8)]}, flush=True)
        pool.submit(time.sleep, 600).result()
"""


def test_work_is_done_in_other_processes() -> None:
    with worker_pool(1) as pool:
        assert pool.submit(os.getpid).result() != os.getpid()


def test_a_killed_run_leaves_no_worker(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(RUN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None
        workers = [int(pid) for pid in run.stdout.readline().split()]
        assert workers
        watched = [os.pidfd_open(pid) for pid in workers]
        run.send_signal(signal.SIGKILL)
        # The pipe ends once nobody holds its other end any more: neither the run nor a worker.
        assert run.stdout.read() == ""
    for descriptor in watched:
        os.close(descriptor)
