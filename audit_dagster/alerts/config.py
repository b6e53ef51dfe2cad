"""The YAML file of the alerts: every key has a default, and every mistake is told with its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from audit_dagster.errors import ConfigurationError, InvalidInputError

if TYPE_CHECKING:
    from yaml import Node

T = TypeVar("T")
_UNITS = {"s": 1, "second": 1, "min": 60, "m": 60, "minute": 60, "h": 3600, "hour": 3600, "d": 86400, "day": 86400}
_DURATION = re.compile(rf"\s*([0-9]+(?:\.[0-9]+)?)\s*({'|'.join(_UNITS)})s?\s*")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_LONGEST = timedelta(days=3650)


class SlowRule(NamedTuple):
    """Slow is a run above `factor` times the 95th percentile of its last `runs`, and `min_seconds` above it."""

    factor: float = 2.0
    min_seconds: float = 10.0
    runs: int = 30


class Route(NamedTuple):
    """Where the alerts of the tools that fit one of the patterns go."""

    tools: tuple[str, ...]
    targets: tuple[str, ...]


class ToolRule(NamedTuple):
    """What holds for the tools that fit one of the patterns."""

    tools: tuple[str, ...]
    window: timedelta
    slow: SlowRule | None
    silent_days: int | None


class AlertConfig(NamedTuple):
    """What the file says; without one, this. `targets` are addresses, with their credentials, by name."""

    window: timedelta = timedelta(minutes=10)
    still_failing: tuple[timedelta, ...] = (timedelta(hours=1), timedelta(hours=4), timedelta(days=1))
    slow: SlowRule | None = SlowRule()
    silent_days: int | None = 7
    tools: tuple[ToolRule, ...] = ()
    quiet_hours: tuple[time, time] | None = None
    urgent: tuple[str, ...] = ()
    mute: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    targets: Mapping[str, str] = {}

    def __repr__(self) -> str:
        """Without the targets' addresses."""
        return f"AlertConfig(window={self.window}, targets={list(self.targets)})"


def parse_duration(text: str) -> timedelta:
    """`10 minutes`, `2d`, `1.5 h`. Raises InvalidInputError."""
    match = _DURATION.fullmatch(text)
    length = timedelta(seconds=min(float(match[1]) * _UNITS[match[2]], 1e10)) if match else None
    if length is None or length > _LONGEST:
        raise InvalidInputError(f"{text!r} is no length of time: give one such as 10 minutes, 4 h or 2 d")
    return length


def parse_config(text: str, file: str, targets: Mapping[str, str], environ: Mapping[str, str]) -> AlertConfig:
    """Read the file `file` with this text; `targets` are those that are there without it.

    Raises ConfigurationError that names the file and the line.
    """
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigurationError(f"{file}{line}: this is no YAML: {error.problem}: correct it") from None
    except RecursionError:
        raise ConfigurationError(f"{file}: it is nested too deeply: correct it") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{file}: this is no YAML: {' '.join(str(error).split())}: correct it") from None
    if node is None:
        return AlertConfig(targets=targets)
    return _Reader(file, environ).config(node, targets)


class _Reader:
    """Reads nodes of the YAML, so that a mistake has a line."""

    def __init__(self, file: str, environ: Mapping[str, str]) -> None:
        self._file, self._environ = file, environ

    def config(self, node: Node, given: Mapping[str, str]) -> AlertConfig:
        default = AlertConfig()
        found = self._mapping(node, "", (*AlertConfig._fields[:3], "silent", *AlertConfig._fields[4:]))
        targets = {**given, **self._targets(found.get("targets"))}
        builtin = ToolRule((), default.window, default.slow, default.silent_days)
        rest = ToolRule((), *self._thresholds(found, builtin))
        return AlertConfig(
            window=rest.window,
            still_failing=self._get(found, "still_failing", self._steps, default.still_failing),
            slow=rest.slow,
            silent_days=rest.silent_days,
            tools=self._get(found, "tools", lambda key, node: self._tool_rules(key, node, rest), ()),
            quiet_hours=self._get(found, "quiet_hours", self._quiet_hours, None),
            urgent=self._get(found, "urgent", self._texts, ()),
            mute=self._get(found, "mute", self._texts, ()),
            routes=self._get(found, "routes", lambda key, node: self._routes(key, node, targets), ()),
            targets=targets,
        )

    def _tool_rules(self, key: str, node: Node, rest: ToolRule) -> tuple[ToolRule, ...]:
        return tuple(self._tool_rule(key, item, rest) for item in self._items(key, node))

    def _tool_rule(self, key: str, node: Node, rest: ToolRule) -> ToolRule:
        found = self._mapping(node, f"{key}.", ("tools", "window", "slow", "silent"))
        if "tools" not in found:
            self._refuse(node, f"{key} has no 'tools': give the patterns of the tools that this is for")
        return ToolRule(self._texts(f"{key}.tools", found["tools"]), *self._thresholds(found, rest, f"{key}."))

    def _thresholds(
        self, found: Mapping[str, Node], rest: ToolRule, prefix: str = ""
    ) -> tuple[timedelta, SlowRule | None, int | None]:
        """What is given for some tools; what is not is as for the `rest`."""
        slow = rest.slow or SlowRule()
        return (
            self._get(found, "window", self._duration, rest.window, prefix),
            self._get(found, "slow", lambda key, node: self._slow(key, node, slow), rest.slow, prefix),
            self._get(found, "silent", self._silent, rest.silent_days, prefix),
        )

    def _slow(self, key: str, node: Node, default: SlowRule) -> SlowRule | None:
        if self._is_off(node):
            return None
        found = self._mapping(node, f"{key}.", SlowRule._fields)
        return SlowRule(
            factor=self._get(found, "factor", self._number, default.factor, f"{key}."),
            min_seconds=self._get(found, "min_seconds", self._number, default.min_seconds, f"{key}."),
            runs=self._get(found, "runs", self._count, default.runs, f"{key}."),
        )

    def _silent(self, key: str, node: Node) -> int | None:
        if self._is_off(node):
            return None
        found = self._mapping(node, f"{key}.", ("days",))
        return self._get(found, "days", self._count, AlertConfig().silent_days or 0, f"{key}.")

    def _quiet_hours(self, key: str, node: Node) -> tuple[time, time] | None:
        if self._is_off(node):
            return None
        found = self._mapping(node, f"{key}.", ("from", "to"))
        for name in ("from", "to"):
            if name not in found:
                self._refuse(node, f"{key} has no '{name}': give both as HH:MM")
        start, end = (self._clock(f"{key}.{name}", found[name]) for name in ("from", "to"))
        return None if start == end else (start, end)

    def _routes(self, key: str, node: Node, targets: Mapping[str, str]) -> tuple[Route, ...]:
        return tuple(self._route(key, item, targets) for item in self._items(key, node))

    def _route(self, key: str, node: Node, targets: Mapping[str, str]) -> Route:
        found = self._mapping(node, f"{key}.", Route._fields)
        for name in Route._fields:
            if name not in found:
                self._refuse(node, f"a route has no '{name}': give both tools and targets")
        named = self._texts(f"{key}.targets", found["targets"])
        for name in named:
            if name not in targets:
                known = f"give one of {', '.join(targets)}, or add it to targets"
                self._refuse(found["targets"], f"{key}.targets names '{name}': {known}")
        return Route(self._texts(f"{key}.tools", found["tools"]), named)

    def _targets(self, node: Node | None) -> dict[str, str]:
        found = {} if node is None else self._mapping(node, "targets.", None)
        return {name: self._address(f"targets.{name}", value) for name, value in found.items()}

    def _address(self, key: str, node: Node) -> str:
        def value(match: re.Match[str]) -> str:
            if not self._environ.get(match[1]):
                self._refuse(node, f"{key} needs the variable {match[1]}, which is not set: set it")
            return self._environ[match[1]]

        return _VARIABLE.sub(value, self._text(key, node))

    def _get(
        self, found: Mapping[str, Node], name: str, read: Callable[[str, Node], T], default: T, prefix: str = ""
    ) -> T:
        return read(f"{prefix}{name}", found[name]) if name in found else default

    def _steps(self, key: str, node: Node) -> tuple[timedelta, ...]:
        steps = tuple(self._duration(key, item) for item in self._items(key, node))
        if not steps or not all(steps):
            self._refuse(node, f"{key} has no step, or one of no length: give at least one such as 4 hours")
        return steps

    def _texts(self, key: str, node: Node) -> tuple[str, ...]:
        return tuple(self._text(key, item) for item in self._items(key, node))

    def _duration(self, key: str, node: Node) -> timedelta:
        try:
            return parse_duration(self._text(key, node))
        except InvalidInputError:
            self._refuse(node, f"{key} is {self._shown(node)}: give a length of time such as 10 minutes or 4 h")

    def _clock(self, key: str, node: Node) -> time:
        try:
            text = self._text(key, node)
            return datetime.strptime(text, "%H:%M").time()
        except ValueError:
            self._refuse(node, f"{key} is {self._shown(node)}: give a time as HH:MM")

    def _number(self, key: str, node: Node) -> float:
        text = self._text(key, node)
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
            self._refuse(node, f"{key} is {self._shown(node)}: give a number from 0")
        return float(text)

    def _count(self, key: str, node: Node) -> int:
        text = self._text(key, node)
        if not (re.fullmatch(r"[0-9]{1,3}", text) and 1 <= int(text) <= 366):
            self._refuse(node, f"{key} is {self._shown(node)}: give a whole number from 1 to 366")
        return int(text)

    def _is_off(self, node: Node) -> bool:
        return node.id == "scalar" and str(node.value).lower() in {"off", "false", "no", "~", "null"}

    def _text(self, key: str, node: Node) -> str:
        if node.id != "scalar" or node.tag.endswith(":null"):
            self._refuse(node, f"{key} is {self._shown(node)}: give one value")
        return str(node.value)

    def _items(self, key: str, node: Node) -> list[Node]:
        if node.id == "scalar" and not node.tag.endswith(":null"):
            return [node]
        if node.id != "sequence":
            self._refuse(node, f"{key} is {self._shown(node)}: give a list such as [a, b]")
        return list(node.value)

    def _mapping(self, node: Node, prefix: str, known: tuple[str, ...] | None) -> dict[str, Node]:
        if node.id != "mapping":
            what = prefix.rstrip(".") or "the file"
            self._refuse(node, f"{what} is {self._shown(node)}: give keys with values")
        found: dict[str, Node] = {}
        for key, value in node.value:
            name = str(key.value)
            if known is not None and name not in known:
                self._refuse(key, f"there is no '{prefix}{name}': the keys here are {', '.join(known)}")
            if name in found:
                self._refuse(key, f"'{prefix}{name}' is there twice: keep one")
            found[name] = value
        return found

    def _shown(self, node: Any) -> str:
        return repr(node.value[:60]) if node.id == "scalar" else f"a {node.id}"

    def _refuse(self, node: Node, problem: str) -> NoReturn:
        raise ConfigurationError(f"{self._file} line {node.start_mark.line + 1}: {problem}")
