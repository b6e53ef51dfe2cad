"""Makes any Python value storable as jsonb, visibly: what had to change is counted, nothing is raised.

PostgreSQL's jsonb refuses NUL, lone surrogates, NaN and Infinity; tools hand over numpy values, paths, times, bytes and
cycles, and objects that do not keep the promises of their type.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time
from itertools import islice
from pathlib import PurePath
from typing import Any

DEEPEST = 50
LONGEST_TEXT = 100_000
LONGEST_LIST = 10_000
MOST = 10_000_000  # characters in one conversion
_COST_OF_VALUE = 100  # as many characters: a hundred thousand values take half a second
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_LARGEST_INTEGER = 10**100
_LONGEST_WORD = 1000
_BETWEEN_WORDS = r"[\s\"',;&]"
_LAST_WORD = rf"[\s\"',;&][^\s\"',;&]{{0,{_LONGEST_WORD}}}\Z"
type_name: Callable[[type], str] = type.__dict__["__name__"].__get__  # whatever a metaclass says


class Storable:
    """Converts values; `changed` counts those that could not be kept as they were."""

    def __init__(self, longest_text: int = LONGEST_TEXT, longest_list: int = LONGEST_LIST) -> None:
        self.changed = 0
        self._longest_text = longest_text
        self._longest_list = longest_list
        self._left = MOST

    def convert(self, value: Any, depth: int = 0) -> Any:
        """The JSON form of `value`."""
        if depth == 0:
            self._left = MOST
        self._left -= _COST_OF_VALUE
        if self._left <= 0:
            return self._mark("…")
        try:
            return self._convert(value, depth)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a tool's object may raise anything when it is looked at
            return self._mark(self.text(f"<{type_name(type(value))}: {type_name(type(error))}>"))

    def text(self, value: str) -> str:
        """`value` with NUL and lone surrogates made visible, and cut where it is very long."""
        value = str.__str__(value)  # of a subclass, what it is rather than what it says
        longest = min(self._longest_text, max(self._left, 0))
        if len(value) > longest:
            self.changed += 1
            value = f"{beginning(value, longest)}… ({len(value)} characters)"
        self._left -= len(value)
        if not _UNSTORABLE.search(value):
            return value
        self.changed += 1
        return _UNSTORABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", value)

    def _convert(self, value: Any, depth: int) -> Any:
        kind = type(value)  # not what its `__class__` says
        if value is None or value is True or value is False:
            return value
        if issubclass(kind, str):
            return self.text(value)
        if issubclass(kind, int):
            value = int.__int__(value)
            return value if abs(value) < _LARGEST_INTEGER else self._mark(self.text(hex(value)))
        if issubclass(kind, float):
            value = float.__float__(value)
            return value if math.isfinite(value) else self._mark(str(value))
        if issubclass(kind, (datetime, date, time)):
            return self.text(value.isoformat())
        if issubclass(kind, PurePath) or type_name(kind) in {"UUID", "datetime64", "timedelta64"}:
            return self.text(str(value))
        if issubclass(kind, (bytes, bytearray, memoryview)):
            beginning = bytes(memoryview(value))[: self._longest_text + 1]
            return self._mark(self.text(beginning.decode("utf-8", "backslashreplace")))
        if depth >= DEEPEST:
            return self._mark(f"<{type_name(kind)} deeper than {DEEPEST} levels>")
        return self._container(value, kind, depth)

    def _container(self, value: Any, kind: type, depth: int) -> Any:
        if issubclass(kind, Mapping):
            return self._mapping(value, depth)
        if issubclass(kind, (list, tuple, set, frozenset)):
            return [item if item is _CUT else self.convert(item, depth + 1) for item in self._first_of(value)]
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple) and math.prod(shape) > self._longest_list:
            return self._mark(self.text(f"<{type_name(kind)} of shape {shape}>"))
        for name in ("item", "tolist", "to_dict"):  # numpy scalars and arrays, pandas frames
            method = getattr(value, name, None)
            if callable(method) and (name != "item" or getattr(value, "size", 1) == 1):
                return self.convert(method(), depth + 1)
        return self._mark(self.text(str(value)))

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for pair in self._first_of(value.items()):
            if pair is _CUT:
                made[_CUT] = _CUT
                break
            key, item = pair
            name = key if issubclass(type(key), str) else self.convert(key, depth + 1)
            name = self.text(name if isinstance(name, str) else str(name))
            while name in made:  # 1 and "1" are two keys in Python and one in JSON
                name = self._mark(f"{name}'{len(made)}")
            made[name] = self.convert(item, depth + 1)
        return made

    def _first_of(self, items: Iterable[Any]) -> Iterator[Any]:
        """As many as there is room for, and _CUT where there are more: an object may have items without an end."""
        for number, item in enumerate(islice(items, self._longest_list + 1)):
            if number == self._longest_list or self._left <= 0:
                yield self._mark(_CUT)
                return
            yield item

    def _mark(self, replacement: Any) -> Any:
        self.changed += 1
        return replacement


_CUT = "… (there are more)"


def beginning(text: str, longest: int) -> str:
    """The beginning of a long text, up to a word's end: half a secret would not be known for one."""
    kept = text[:longest]
    if len(text) <= longest:
        return kept
    last_word = re.compile(_LAST_WORD).search(kept, max(0, len(kept) - _LONGEST_WORD - 1))
    return kept[: last_word.start()] if last_word else kept


def ending(text: str, longest: int) -> str:
    """The end of a long text, from a word's beginning."""
    if len(text) <= longest:
        return text
    kept = text[-longest:]
    first_word = re.search(_BETWEEN_WORDS, kept[:_LONGEST_WORD])
    return kept[first_word.end() :] if first_word else kept
