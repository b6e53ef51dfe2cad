"""The tool of the network tests: `python tool.py OPERATION`, or `python tool.py -` for one that is not recorded.

The last act of its own code prints the monotonic clock, in ns. After it, whatever has to do with a socket is printed.
"""

import os
import stat
import sys
import time

found = []
sys.addaudithook(lambda event, _: found.append(event) if event.startswith("socket.") else None)


def is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def work() -> None:
    sum(range(10_000))
    print(time.monotonic_ns(), flush=True)


if sys.argv[1] == "-":
    work()
else:
    from audit_dagster import log_custom_operation

    with log_custom_operation("chaos", sys.argv[1]):
        work()

found += [name for name in ("socket", "_socket", "ssl", "psycopg") if name in sys.modules]
found += [str(number) for number in range(3, 100) if is_socket(number)]
for one in found:
    print(one)
