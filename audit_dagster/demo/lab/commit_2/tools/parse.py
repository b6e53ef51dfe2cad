"""Decode packets: four hexadecimal digits of temperature, four of moisture, two of checksum. Skip damaged ones."""

import argparse
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("input", type=Path)
parser.add_argument("--output", type=Path, required=True)
chosen = parser.parse_args()


def decode(packet: str) -> tuple[float, float] | None:
    temperature, moisture, checksum = int(packet[:4], 16), int(packet[4:8], 16), int(packet[8:], 16)
    if (temperature + moisture) % 256 != checksum:
        return None
    return temperature / 100 - 40, moisture / 1000


rows = ["time,node,temperature,moisture"]
damaged = 0
for line in chosen.input.read_text().splitlines():
    time, node, packet = line.split(",")
    reading = decode(packet)
    if reading is None:
        damaged += 1
        continue
    rows.append(f"{time},{node},{reading[0]:.2f},{reading[1]:.3f}")
chosen.output.write_text("\n".join(rows) + "\n")
print(f"{len(rows) - 1} readings in {chosen.output}, {damaged} damaged packets skipped")
