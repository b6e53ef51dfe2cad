"""Draw one column of a table of readings, a line for each node, as SVG."""

import argparse
import csv
import sys
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--file", type=Path, required=True)
parser.add_argument("--parameter", required=True)
parser.add_argument("--output", type=Path, required=True)
chosen = parser.parse_args()

with chosen.file.open(newline="") as stream:
    rows = list(csv.DictReader(stream))
if not rows or chosen.parameter not in rows[0]:
    columns = ", ".join(rows[0]) if rows else "none"
    sys.exit(f"{chosen.file} has no column '{chosen.parameter}'. Its columns: {columns}")

values = [float(row[chosen.parameter]) for row in rows]
lowest, highest = min(values), max(values)
colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"]
lines = []
for number, node in enumerate(sorted({row["node"] for row in rows})):
    own = [float(row[chosen.parameter]) for row in rows if row["node"] == node]
    points = " ".join(
        f"{10 + 580 * index / max(1, len(own) - 1):.1f},{190 - 180 * (value - lowest) / ((highest - lowest) or 1):.1f}"
        for index, value in enumerate(own)
    )
    lines.append(
        f'<polyline fill="none" stroke="{colours[number % 4]}" points="{points}"><title>{node}</title></polyline>'
    )
chosen.output.parent.mkdir(exist_ok=True)
title = f"{chosen.parameter} of {chosen.file.stem}"
head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 200"><title>{title}</title>'
chosen.output.write_text(f"{head}{''.join(lines)}</svg>\n")
print(f"{len(values)} points in {chosen.output}")
