"""Decode packets: four hexadecimal digits of temperature, four of moisture, two of checksum."""

import argparse
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("input", type=Path)
parser.add_argument("--output", type=Path, required=True)
chosen = parser.parse_args()


def decode(packet: str) -> tuple[float, float]:
    temperature, moisture, checksum = int(packet[:4], 16), int(packet[4:8], 16), int(packet[8:], 16)
    if (temperature + moisture) % 256 != checksum:
        raise ValueError(f"packet {packet}: the checksum does not fit")
    return temperature / 100 - 40, moisture / 1000


rows = ["time,node,temperature,moisture"]
for line in chosen.input.read_text().splitlines():
    time, node, packet = line.split(",")
    temperature, moisture = decode(packet)
    rows.append(f"{time},{node},{temperature:.2f},{moisture:.3f}")
chosen.output.write_text("\n".join(rows) + "\n")
print(f"{len(rows) - 1} readings in {chosen.output}")
