"""Makes any Python value storable as jsonb, visibly: what had to change is counted, nothing is raised.

PostgreSQL's jsonb refuses NUL, lone surrogates, NaN and Infinity; tools hand over numpy values, paths, times, bytes and
cycles.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, datetime, time
from pathlib import PurePath
from typing import Any

DEEPEST = 50
LONGEST_TEXT = 100_000
LONGEST_LIST = 10_000
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_LARGEST_INTEGER = 10**100


class Storable:
    """Converts values; `changed` counts those that could not be kept as they were."""

    def __init__(self, longest_text: int = LONGEST_TEXT, longest_list: int = LONGEST_LIST) -> None:
        self.changed = 0
        self._longest_text = longest_text
        self._longest_list = longest_list

    def convert(self, value: Any, depth: int = 0) -> Any:
        """The JSON form of `value`."""
        try:
            return self._convert(value, depth)
        except Exception as error:  # a tool's object may raise anything when it is looked at
            self.changed += 1
            return f"<{type(value).__name__}: {type(error).__name__}>"

    def text(self, value: str) -> str:
        """`value` with NUL and lone surrogates made visible, and cut where it is very long."""
        if len(value) > self._longest_text:
            self.changed += 1
            value = f"{value[: self._longest_text]}… ({len(value)} characters)"
        if not _UNSTORABLE.search(value):
            return value
        self.changed += 1
        return _UNSTORABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", value)

    def _convert(self, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self.text(str(value))
        if isinstance(value, int):
            return int(value) if abs(value) < _LARGEST_INTEGER else self._mark(hex(value))
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else self._mark(str(float(value)))
        if isinstance(value, (datetime, date, time)):
            return value.isoformat()
        if isinstance(value, PurePath) or type(value).__name__ == "UUID":
            return self.text(str(value))
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._mark(self.text(bytes(value).decode("utf-8", "backslashreplace")))
        if depth >= DEEPEST:
            return self._mark(f"<{type(value).__name__} deeper than {DEEPEST} levels>")
        return self._container(value, depth)

    def _container(self, value: Any, depth: int) -> Any:
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            kept = [self.convert(item, depth + 1) for item in list(value)[: self._longest_list]]
            return kept if len(value) <= self._longest_list else [*kept, self._mark(f"… ({len(value)} items)")]
        for name in ("item", "tolist", "to_dict"):  # numpy scalars and arrays, pandas frames
            method = getattr(value, name, None)
            if callable(method) and (name != "item" or getattr(value, "size", 1) == 1):
                return self.convert(method(), depth + 1)
        return self._mark(self.text(str(value)))

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, item in value.items():
            name = key if isinstance(key, str) else self.convert(key, depth + 1)
            name = self.text(name if isinstance(name, str) else str(name))
            while name in made:  # 1 and "1" are two keys in Python and one in JSON
                name = self._mark(f"{name}'")
            made[name] = self.convert(item, depth + 1)
        return made

    def _mark(self, replacement: Any) -> Any:
        self.changed += 1
        return replacement
