"""The totals that a report states, read back from its text: what a check compares with the database."""

from __future__ import annotations

import re
from typing import NamedTuple

from audit_dagster.errors import EntryError

_OPERATIONS = re.compile(r"^(?:- (?:Total )?Operations: |\| Operations \| )([\d,]+)", re.MULTILINE)
_FAILED = re.compile(r"^(?:- Failed: |\| Failed \| )([\d,]+)", re.MULTILINE)
_IDLE = "\nThe tool did not run in this week"


class Totals(NamedTuple):
    """How many operations, and how many of them failed."""

    operations: int
    failed: int


def stated_totals(report: str) -> Totals:
    """The totals of a daily, weekly or tool report. Raises EntryError where it states none."""
    operations, failed = _OPERATIONS.search(report), _FAILED.search(report)
    if operations and failed:
        return Totals(_number(operations[1]), _number(failed[1]))
    if _IDLE in report:
        return Totals(0, 0)
    raise EntryError("the report states no totals")


def _number(text: str) -> int:
    return int(text.replace(",", ""))
