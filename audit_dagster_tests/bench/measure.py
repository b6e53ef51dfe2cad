"""How the benchmarks measure, and the table they print."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

_MEASURED = """import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
_HEADINGS = ("what", "ours", "floor", "added", "ratio", "target", "met")


class Target(NamedTuple):
    """At most so much: of the ratio, or, in the line's unit, of our side or of what it adds."""

    value: float
    of: str = "ratio"


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison, both sides measured in this run; seconds, shown as milliseconds, or megabytes where `in_mb`."""

    name: str
    ours: float
    floor: float
    target: Target | None = None
    in_mb: bool = False

    def cells(self) -> tuple[str, ...]:
        """What the table shows."""
        found = {"ratio": self.ours / self.floor, "ours": self.ours, "added": self.ours - self.floor}
        met = "-" if self.target is None else "yes" if found[self.target.of] <= self.target.value else "NO"
        return (
            self.name,
            *map(self._shown, (self.ours, self.floor, found["added"])),
            f"{found['ratio']:.2f}",
            self._limit(),
            met,
        )

    def _limit(self) -> str:
        if self.target is None:
            return "-"
        value, of = self.target
        return f"<= {value:g}" if of == "ratio" else f"{of} <= {self._shown(value)}"

    def _shown(self, value: float) -> str:
        return f"{value:,.1f} MB" if self.in_mb else f"{value * 1000:,.2f} ms"


class Spent(NamedTuple):
    """What one run of a process took: on the clock, and user plus system CPU of it and the children it waited for."""

    wall: float
    cpu: float


def process(argv: Sequence[str | Path], environment: Mapping[str, str], folder: Path) -> Spent:
    """Run a process to its end."""
    start = time.perf_counter()
    child = subprocess.Popen(argv, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    spent = Spent(time.perf_counter() - start, usage.ru_utime + usage.ru_stime)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{argv[:3]} ended with exit code {child.returncode}")
    return spent


def told(argv: Sequence[str | Path], environment: Mapping[str, str], folder: Path) -> float:
    """The seconds that a process measured itself, and printed."""
    run = subprocess.run(argv, env=environment, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return float(run.stdout)


def clocked(action: Callable[[], object]) -> float:
    """The seconds that a call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def interleaved(runs: int, *actions: Callable[[], Any]) -> list[list[Any]]:
    """What each action returned in `runs` rounds, every other one in reverse; a first round warms up and is dropped."""
    found: list[list[Any]] = [[] for _ in actions]
    order = list(enumerate(actions))
    for number in range(runs + 1):
        for position, action in order if number % 2 else reversed(order):
            value = action()
            if number:
                found[position].append(value)
    return found


def walls(spent: Sequence[Spent]) -> float:
    """The median time on the clock."""
    return median(item.wall for item in spent)


def cpus(spent: Sequence[Spent]) -> float:
    """The median CPU time."""
    return median(item.cpu for item in spent)


def peak(argv: Sequence[str | Path], environment: Mapping[str, str], folder: Path) -> float:
    """The largest resident size of a process, in megabytes (10**6 bytes).

    It is the child of a small one: a process begins with the size of who started it.
    """
    return told((sys.executable, "-c", _MEASURED, *argv), environment, folder) * 1024 / 1e6


def table(lines: Sequence[Line], *, markdown: bool) -> str:
    """The lines under their headings: aligned text, or a Markdown table."""
    rows = [_HEADINGS, *(line.cells() for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    texts = [
        [_aligned(cell, width, column) for column, (cell, width) in enumerate(zip(row, widths, strict=True))]
        for row in rows
    ]
    if not markdown:
        return "\n".join("  ".join(row).rstrip() for row in texts)
    rule = [":" + "-" * (width - 1) if column == 0 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (texts[0], rule, *texts[1:]))


def _aligned(cell: str, width: int, column: int) -> str:
    return cell.rjust(width) if column else cell.ljust(width)
