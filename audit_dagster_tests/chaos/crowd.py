"""One of a crowd: `python crowd.py FOLDER NAME NUMBER` says that it is ready, waits for the others, then records."""

import random
import sys
import time
from pathlib import Path

from audit_dagster import log_custom_operation

folder, name, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
(folder / f"{name}.ready").touch()
while not (folder / "go").exists():
    time.sleep(0.01)
for one in range(number):
    with log_custom_operation("chaos", f"{name}-{one}"):
        time.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - chance, not secrecy
