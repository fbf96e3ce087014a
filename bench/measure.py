"""Measuring and reporting inside one benchmark process. Standard library alone, so that every peer can use it."""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

Figure = int | float | str
Figures = dict[str, Figure]

RESULT_MARK = "RESULT "


class Stopwatch:
    """Wall and processor seconds of a `with` block; `wall` is readable once the block has ended."""

    def __init__(self) -> None:
        self.wall = 0.0
        self.cpu = 0.0
        self._wall_start = 0.0
        self._cpu_start = 0.0

    def __enter__(self) -> Self:
        self._wall_start = time.perf_counter()
        self._cpu_start = time.process_time()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.wall = time.perf_counter() - self._wall_start
        self.cpu = time.process_time() - self._cpu_start


def resident_mb() -> float:
    """Resident memory of this process in MB (2**20 bytes); NaN where the system has no /proc."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return math.nan
    kilobytes = next(line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return int(kilobytes) / 1024


def latency_figures(seconds: Sequence[float]) -> Figures:
    """Median and 99th percentile in milliseconds, and the number of samples."""
    ordered = sorted(seconds)
    rank = max(0, math.ceil(0.99 * len(ordered)) - 1)
    return {
        "median_ms": round(statistics.median(ordered) * 1000, 3),
        "p99_ms": round(ordered[rank] * 1000, 3),
        "samples": len(ordered),
    }


def emit(figures: Mapping[str, Figure]) -> None:
    """Print the one line that the runner reads."""
    print(RESULT_MARK + json.dumps(dict(figures)), flush=True)


def parse_result(output: str) -> Figures | None:
    """The figures in what a peer printed, or None if it printed no result line."""
    for line in reversed(output.splitlines()):
        if line.startswith(RESULT_MARK):
            figures: Figures = json.loads(line.removeprefix(RESULT_MARK))
            return figures
    return None


def leave(code: int = 0) -> None:
    """End the process without any tidying up: the measurement is over and tidying up would be measured by nobody."""
    os._exit(code)
