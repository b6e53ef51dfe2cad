"""Copy one project's packets of a range of days out of the station's raw log."""

import argparse
import sys
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--project", required=True)
parser.add_argument("--start-date", required=True)
parser.add_argument("--end-date", required=True)
parser.add_argument("--output", type=Path, required=True)
chosen = parser.parse_args()

packets = [line.split(",") for line in Path("raw/station.log").read_text().splitlines()]
projects = sorted({project for _, project, _, _ in packets})
if chosen.project not in projects:
    sys.exit(f"Project '{chosen.project}' not found. Available projects: {', '.join(projects)}")
kept = [
    packet
    for packet in packets
    if packet[1] == chosen.project and chosen.start_date <= packet[0][:10] <= chosen.end_date
]
chosen.output.parent.mkdir(exist_ok=True)
chosen.output.write_text("".join(f"{time},{node},{packet}\n" for time, _, node, packet in kept))
print(f"{len(kept)} packets in {chosen.output}")
