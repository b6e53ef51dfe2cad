"""`python -m audit_dagster_tests.bench`: our figures beside the floors', measured in the same run."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time

from audit_dagster_tests.bench import lines
from audit_dagster_tests.bench.measure import table
from audit_dagster_tests.bench.world import QUICK, Sizes, world


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m audit_dagster_tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it works, not how fast")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    chosen = parser.parse_args()
    start = time.monotonic()
    found = []
    with world(QUICK if chosen.quick else Sizes()) as made:
        for measure in lines.ALL:
            _progress(f"{measure.__name__} ...", start)
            found += measure(made)
    _progress("done", start)
    print(table(found, markdown=chosen.markdown))
    print(f"\nMedians. {platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores.")


def _progress(text: str, start: float) -> None:
    print(f"[{time.monotonic() - start:5.0f} s] {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
