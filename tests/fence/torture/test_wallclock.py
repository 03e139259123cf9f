"""What is stepped is the time of day, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from fence.torture.wallclock import WallClocks

_HOUR = 3_600.0
_SHOW = """
import sys, time
for line in sys.stdin:
    clocks = time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME
    print(time.time(), *map(time.clock_gettime, clocks), flush=True)
"""


def test_only_the_time_of_day_is_stepped_and_while_the_process_runs(tmp_path: Path) -> None:
    clocks = WallClocks(tmp_path)
    environment = clocks.environment("one")
    # Without a compiler nothing is promised, and CI has one.
    assert bool(environment) == bool(shutil.which("cc"))
    with subprocess.Popen(
        [sys.executable, "-c", _SHOW],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for ahead in (0.0, _HOUR, -_HOUR) if environment else (0.0,):
            for clock in clocks.by_name.values():
                clock.step(ahead)
            process.stdin.write("now\n")
            process.stdin.flush()
            of_day, real, monotonic, boot = map(float, process.stdout.readline().split())
            assert abs(of_day - (time.time() + ahead)) < 60
            assert abs(real - (time.time() + ahead)) < 60
            assert abs(monotonic - time.clock_gettime(time.CLOCK_MONOTONIC)) < 60
            assert abs(boot - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60
