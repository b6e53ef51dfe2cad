"""Say what a node's UID stands for: type, hardware version and serial number in 4, 4 and 24 bits."""

import argparse
import json
import sys
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("uid")
parser.add_argument("--output", type=Path, required=True)
chosen = parser.parse_args()

if not chosen.uid.isdecimal() or int(chosen.uid) >= 2**32:
    sys.exit(f"'{chosen.uid}' is no UID: give a number below 4294967296")
uid = int(chosen.uid)
parts = {"uid": uid, "type": uid >> 28, "hardware": uid >> 24 & 15, "serial": uid & 0xFFFFFF}
chosen.output.parent.mkdir(exist_ok=True)
chosen.output.write_text(json.dumps(parts, indent=2) + "\n")
print(f"type {parts['type']}, hardware {parts['hardware']}, serial {parts['serial']}")
