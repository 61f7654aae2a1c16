from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
BENCHMARK = """
import sys, time
from pathlib import Path
from benchmarks.process import end_servers_when_ended, running_indexer
end_servers_when_ended()
with running_indexer(Path(sys.argv[1]) / "data") as server:
    print(server.process.pid, flush=True)
    time.sleep(60)
"""


def test_a_benchmark_that_is_ended_leaves_no_server(tmp_path: Path) -> None:
    benchmark = subprocess.Popen([sys.executable, "-c", BENCHMARK, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert benchmark.stdout is not None
    server = int(benchmark.stdout.readline())
    benchmark.send_signal(signal.SIGTERM)
    assert benchmark.wait(60) == 128 + signal.SIGTERM
    assert not psutil.pid_exists(server)
