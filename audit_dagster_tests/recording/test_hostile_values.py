"""Whatever a tool hands over, nothing is raised, and what the database gives back is what was put into the spool."""

from __future__ import annotations

import collections
import dataclasses
import decimal
import enum
import fractions
import itertools
import json
import math
import types
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from pathlib import Path, PureWindowsPath
from typing import Any

import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from audit_dagster import log_custom_operation
from audit_dagster.audit_service import AuditService
from audit_dagster.recording import recorder
from audit_dagster.recording.spool import number_of, read_lines, waiting
from audit_dagster.recording.storable import DEEPEST, LONGEST_LIST, LONGEST_TEXT, MOST, Storable
from audit_dagster.settings import Settings
from audit_dagster.store.drain import drain

_EXAMPLES = 100_000 if hypothesis.settings.default.max_examples > 1000 else 2_000  # type: ignore[union-attr]
_BATCH = 500
Json = dict[str, Any]


# ---- Objects that do not keep the promises of their type ----


class Angry:
    """Whoever looks at it is shouted at."""

    def _refuse(self, *_: object, **__: object) -> Any:
        raise RuntimeError("leave me alone")

    __str__ = __iter__ = __len__ = __getattr__ = __bool__ = __format__ = __fspath__ = _refuse


class Leaving:
    """Looking at it means to leave."""

    def __str__(self) -> str:
        raise SystemExit(3)

    def __getattr__(self, name: str) -> Any:
        raise GeneratorExit


class Endless:
    """Each of its attributes can be called, and gives itself."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: self


class Pretending:
    """It says that it is of another type."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    @property
    def __class__(self) -> type:  # type: ignore[override]
        return self._kind

    def __index__(self) -> int:
        return 10**12


class Unsure:
    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise RuntimeError


class AngryMapping(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        raise RuntimeError

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError


class EndlessMapping(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        return (f"{number}" for number in itertools.count())

    def __len__(self) -> int:
        return 3


class LyingDict(dict[str, int]):
    def items(self) -> Any:
        return [1, "ab", (1, 2, 3)]

    def keys(self) -> Any:
        raise RuntimeError


class EndlessList(list[int]):
    def __iter__(self) -> Iterator[int]:
        return itertools.count()

    def __len__(self) -> int:
        return -1


class LyingText(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError

    def __len__(self) -> int:
        return 10**18

    def __getitem__(self, _: Any) -> str:
        raise RuntimeError

    def __hash__(self) -> int:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def lower(self) -> str:
        raise RuntimeError

    def encode(self, *_: Any) -> bytes:
        raise RuntimeError


class LyingInt(int):
    def __int__(self) -> Any:
        return "no number"

    def __abs__(self) -> int:
        raise RuntimeError

    def __repr__(self) -> str:
        return "NaN"


class LyingFloat(float):
    def __float__(self) -> float:
        return math.nan

    def __repr__(self) -> str:
        return "Infinity"


class LyingDate(date):
    def isoformat(self) -> Any:
        return object()


class NoZone(tzinfo):
    def utcoffset(self, _: datetime | None) -> timedelta:
        raise RuntimeError


class Shaped:
    def __init__(self, shape: Any) -> None:
        self.shape = shape
        self.size = 1

    def tolist(self) -> Any:
        raise MemoryError

    def __str__(self) -> str:
        return "\0\ud800"


class NamelessType(type):
    @property
    def __name__(cls) -> str:
        raise RuntimeError


class Nameless(metaclass=NamelessType):
    def __str__(self) -> str:
        raise RuntimeError


class Colour(enum.Enum):
    RED = "\0red"


class Level(enum.IntEnum):
    HIGH = 10


class Site(str, enum.Enum):  # noqa: UP042 - as many programs have it
    NORTH = "north"


@dataclasses.dataclass
class Reading:
    station: str
    value: Any


Point = collections.namedtuple("Point", "x y")


def array_of(*items: Any) -> Any:
    made = np.empty(len(items), dtype=object)
    for number, item in enumerate(items):
        made[number] = item
    return made


def cycle() -> list[Any]:
    made: list[Any] = [1]
    made.append({"again": made})
    return made


def branching_cycle() -> list[Any]:
    made = cycle()
    made.append(made)
    return made


def nested(depth: int, kind: Callable[[Any], Any]) -> Any:
    made: Any = "bottom"
    for _ in range(depth):
        made = kind(made)
    return made


HOSTILE: list[Callable[[], Any]] = [
    Angry,
    Leaving,
    Endless,
    Unsure,
    AngryMapping,
    EndlessMapping,
    lambda: LyingDict(a=1),
    lambda: EndlessList([1]),
    lambda: LyingText("lying \0"),
    lambda: LyingInt(7),
    lambda: LyingFloat(7.5),
    lambda: LyingDate(2023, 6, 15),
    lambda: datetime(2023, 6, 15, tzinfo=NoZone()),
    lambda: Shaped((10**9, 10**9)),
    lambda: Shaped(("a", Angry())),
    lambda: Shaped(()),
    lambda: Nameless(),  # noqa: PLW0108 - whoever lists these asks for their names
    lambda: NamelessType("Nameless", (), {}),
    cycle,
    object,
    lambda: Colour.RED,
    lambda: Level.HIGH,
    lambda: Site.NORTH,
    lambda: Reading("north", math.nan),
    lambda: Point(1, Angry()),
    lambda: collections.deque([1, 2]),
    lambda: types.MappingProxyType({"a": 1}),
    lambda: collections.defaultdict(list, a=[1]),
    lambda: collections.Counter("abca"),
    lambda: (number for number in range(3)),
    lambda: range(3),
    lambda: memoryview(b"abcd")[::2],
    lambda: bytearray(b"\xff\0"),
    lambda: PureWindowsPath("C:\\data"),
    lambda: ...,
    lambda: NotImplemented,
    lambda: print,
    lambda: ValueError("x"),
    lambda: open("/dev/null"),  # noqa: PTH123, SIM115
    lambda: np.datetime64("NaT"),
    lambda: np.datetime64("2023-06-15T10:30:22.123456789"),
    lambda: np.timedelta64(5, "ns"),
    lambda: np.float16("inf"),
    lambda: np.array([np.nan, 1.5]),
    lambda: np.array("0-d"),
    lambda: np.zeros((0, 3)),
    lambda: np.zeros((1000, 1000)),
    lambda: array_of(Angry(), {1}),
    lambda: np.ma.masked,
    lambda: np.rec.array([(1, "a")], names="x,y"),
    lambda: pd.NA,
    lambda: pd.NaT,
    lambda: pd.Timestamp("2023-06-15", tz="America/Chicago"),
    lambda: pd.Timedelta("1s"),
    lambda: pd.Series([1, None, pd.NA], dtype=object),
    lambda: pd.Series([1.5]),
    lambda: pd.Series(pd.to_datetime(["2023-06-15", None])),
    lambda: pd.DataFrame({"a": [1, 2], "b": ["x", None]}),
    lambda: pd.DataFrame(np.zeros((3000, 3000))),
    lambda: pd.Index(["a", "b"]),
    lambda: pd.MultiIndex.from_tuples([(1, "a")]),
    lambda: pd.Categorical(["a", "b"]),
    lambda: pd.Interval(0, 1),
    lambda: pd.Period("2023-06"),
    *(lambda kind=kind: Pretending(kind) for kind in (bool, int, float, str, bytes, list, dict, datetime, type(None))),  # type: ignore[misc]
]


@dataclasses.dataclass(frozen=True)
class Later:
    """A hostile object that is not made yet: who generates values would look at it."""

    make: Callable[[], Any]


def made(value: Any) -> Any:
    """With the hostile objects in it."""
    if isinstance(value, Later):
        return value.make()
    if isinstance(value, dict):
        return {made(key): made(item) for key, item in value.items()}
    if type(value) in {list, tuple, collections.deque}:
        return type(value)(made(item) for item in value)
    if isinstance(value, Reading):
        return Reading(value.station, made(value.value))
    return value


later = st.sampled_from([Later(make) for make in HOSTILE])
texts = st.text(st.characters(exclude_categories=()), max_size=30)
zones = st.one_of(
    st.none(),
    st.just(UTC),
    st.timezones(),
    st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)).map(timezone),
)
leaves = st.one_of(
    texts,
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 5000).map(lambda power: -(10**power)),
    st.floats(),
    st.sampled_from([-0.0, 5e-324, 1.7976931348623157e308, 1e16, 1e22, 1e23, 0.1]),
    st.complex_numbers(),
    st.decimals(),
    st.fractions(),
    st.binary(max_size=30),
    st.datetimes(timezones=zones),
    st.dates(),
    st.times(timezones=zones),
    st.timedeltas(),
    st.uuids(),
    st.sampled_from([Path("data/turf.csv"), Path("/"), Path("\udcff")]),
    hypothesis_numpy.scalar_dtypes().flatmap(hypothesis_numpy.from_dtype),
    hypothesis_numpy.arrays(hypothesis_numpy.scalar_dtypes(), st.sampled_from([(), (0,), (2,), (2, 2)])),
    later,
)
hashable = st.one_of(texts, st.integers(), st.floats(), st.binary(max_size=5), st.none(), st.booleans(), st.dates())
keys = st.one_of(
    hashable, st.tuples(texts, st.integers()), st.just(Later(Angry)), st.builds(LyingInt, st.integers(0, 3))
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.sets(hashable, max_size=4),
        st.frozensets(hashable, max_size=4),
        st.dictionaries(keys, inner, max_size=4),
        st.builds(Reading, texts, inner),
        inner.map(lambda value: collections.deque([value])),
    ),
    max_leaves=8,
)
names = st.one_of(texts, keys, later, st.just("success"))


@dataclasses.dataclass(frozen=True)
class Told:
    """What a tool says of one operation."""

    tool_name: Any
    operation: Any
    parameters: list[tuple[Any, Any]]
    results: list[tuple[Any, Any]]
    notes: list[Any]
    error: Any


pairs = st.lists(st.tuples(names, values), max_size=3)
operations = st.builds(Told, names, names, pairs, pairs, st.lists(values, max_size=2), st.one_of(st.none(), values))


def record(told: Told) -> None:
    """As a tool does it. What it raises itself comes out, and nothing else."""
    raised = RuntimeError(told.error)
    logger = log_custom_operation(told.tool_name, told.operation)
    for name, value in told.parameters[:1]:
        logger.add_parameter(name, value)
    try:
        with logger:
            for name, value in told.parameters[1:]:
                logger.add_parameter(name, value)
            for name, value in told.results:
                logger.add_result(name, value)
            for note in told.notes:
                logger.add_note(note)
            if told.error is not None:
                raise raised
    except RuntimeError as error:
        assert error is raised
        assert told.error is not None
    else:
        assert told.error is None


# ---- From the spool to the database and back ----


def exactly(text: str) -> Any:
    """Numbers as they are written: jsonb keeps each of their digits, but not how they are split by an exponent."""
    return json.loads(text, parse_float=decimal.Decimal, parse_int=decimal.Decimal)


def spooled(folder: Path) -> dict[str, Json]:
    """What is in the spool, as the drainer puts a beginning and an end together."""
    found = {}
    for path in waiting(folder):
        raw = [line.split(b" ", 2)[2] for line in path.read_bytes().splitlines()]
        with path.open("rb") as stream:
            assert len(list(read_lines(stream.fileno()))) == len(raw) == 2
        begin, end = (exactly(line.decode("ascii")) for line in raw)
        assert "incomplete" not in end["context"]
        number = exactly(json.dumps(number_of(path)))
        form = {**begin, **end, "context": {**begin["context"], **end["context"], "spool": number}}
        found[form["operation_id"]] = form
    return found


def stored(settings: Settings, names: list[str]) -> dict[str, Json]:
    columns = ("parameters", "results", "context", "tool_name", "operation", "note", "error_message", "success")
    query = f"SELECT operation_id::text, {', '.join(f'{name}::text' for name in columns)} FROM audit_logs"  # noqa: S608
    with AuditService(settings).database() as connection:
        rows = connection.execute(f"{query} WHERE operation_id = ANY (%s::uuid[])", [names]).fetchall()
    return {
        name: {
            column: exactly(text) if place < 3 else text
            for place, (column, text) in enumerate(zip(columns, row, strict=True))
        }
        for name, *row in rows
    }


class Rounds:
    """What was recorded goes to the database, a batch at a time, and is compared."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.compared = 0

    def compare(self) -> None:
        before = spooled(self._settings.spool_dir)
        drained = drain(self._settings)
        reasons = [path.read_text() for path in self._settings.spool_dir.glob("quarantine/*.reason")]
        assert (drained.stored, reasons) == (len(before), [])
        after = stored(self._settings, list(before))
        for name, form in before.items():
            row = after[name]
            form["results"].pop("success", None)  # it is a field of its own
            form["success"] = "true" if form["success"] else "false"
            assert row == {column: form[column] for column in row}
        self.compared += len(before)


@pytest.fixture
def rounds(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_drainer: None
) -> Iterator[Rounds]:
    """Nobody was warned in the meantime, for that would mean that something was lost."""
    monkeypatch.setattr(recorder, "_warned", False)
    monkeypatch.setattr(recorder, "_callers_file", lambda: None)  # else it would look at these tests' repository
    made = Rounds(settings)
    yield made
    made.compare()
    assert not recorder._warned


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
def test_any_value_is_recorded_and_comes_back(rounds: Rounds) -> None:
    done = itertools.count(1)

    @hypothesis.settings(
        max_examples=_EXAMPLES,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    @given(operations)
    def one(told: Told) -> None:
        record(Told(*(made(getattr(told, field.name)) for field in dataclasses.fields(Told))))
        if next(done) % _BATCH == 0:
            rounds.compare()

    one()
    rounds.compare()
    assert rounds.compared == next(done) - 1 >= _EXAMPLES


@pytest.mark.parametrize("place", ["name", "parameter", "result", "note", "error", "key", "inside"])
def test_each_hostile_object_everywhere(rounds: Rounds, place: str) -> None:
    for make in HOSTILE:
        told = {
            "name": Told(make(), make(), [(make(), 1)], [(make(), 1)], [], None),
            "parameter": Told("t", "o", [("x", make()), ("y", make())], [], [], None),
            "result": Told("t", "o", [], [("x", make()), ("success", make())], [], None),
            "note": Told("t", "o", [], [], [make()], None),
            "error": Told("t", "o", [], [], [], make()),
            "key": Told("t", "o", [("x", KeyOf(make()))], [], [], None),
            "inside": Told("t", "o", [("x", [make(), {"y": (make(), {"z": make()})}])], [], [], None),
        }[place]
        record(told)
    rounds.compare()
    assert rounds.compared == len(HOSTILE)


class KeyOf(Mapping[Any, int]):
    """A mapping with one key, whether it can be hashed or not."""

    def __init__(self, key: Any) -> None:
        self._key = key

    def __getitem__(self, key: Any) -> int:
        return 1

    def __iter__(self) -> Iterator[Any]:
        yield self._key

    def __len__(self) -> int:
        return 1


LARGE: dict[str, Callable[[], Any]] = {
    "a text": lambda: "x" * 50_000_000,
    "a text of words": lambda: "some words and a token=abcdefgh, " * 1_500_000,
    "a text of odd characters": lambda: "\0\ud800é" * 12_000_000,
    "bytes": lambda: bytes(range(256)) * 200_000,
    "an integer": lambda: 1 << 10_000_000,
    "a list": lambda: [1.5] * 5_000_000,
    "lists of lists": lambda: [[0] * 10_000] * 10_000,
    "a list of texts": lambda: ["y" * 100_000] * 500,
    "a dictionary": lambda: {number: number for number in range(1_000_000)},
    "keys that are the same": lambda: KeysOf([1] * 100_000),
    "a key": lambda: {"k" * 50_000_000: 1},
    "an array": lambda: np.zeros(50_000_000, dtype=np.int8),
    "a table": lambda: pd.DataFrame({"a": np.zeros(5_000_000)}),
    "deep lists": lambda: nested(3000, lambda inner: [inner]),
    "deep dictionaries": lambda: nested(3000, lambda inner: {"deeper": inner}),
    "a cycle that branches": branching_cycle,
    "deep and wide": lambda: nested(25, lambda inner: [inner, inner]),
}


class KeysOf(Mapping[Any, int]):
    """A mapping with keys that are the same when they are written."""

    def __init__(self, wanted: list[Any]) -> None:
        self._keys = wanted

    def __getitem__(self, key: Any) -> int:
        return 1

    def __iter__(self) -> Iterator[Any]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE)
def test_large_values(rounds: Rounds, settings: Settings, make: Callable[[], Any]) -> None:
    value = make()
    record(Told("t", "o", [], [("x", value)], [], None))
    error = value if isinstance(value, (str, bytes)) else None  # a long list would take long to become a message
    record(Told("t", "o", [("x", value)], [], [value], error))
    assert sum(path.stat().st_size for path in waiting(settings.spool_dir)) < 10 * 12 * MOST
    rounds.compare()
    assert rounds.compared == 2


def test_what_had_to_change_is_counted_and_seen(rounds: Rounds) -> None:
    told: list[tuple[Any, Any]] = [
        ("long", "word " * 30_000),
        ("many", list(range(LONGEST_LIST + 5))),
        ("keys", {1: "a", "1": "b"}),
        ("nan", math.nan),
        ("deep", nested(DEEPEST + 5, lambda inner: [inner])),
        ("kept", [1, 1.5, "x", None, True, {"a": {}}]),
        (3, "three"),
    ]
    record(Told("t", "o", [], told, [], None))
    entry = AuditService().recent_entries()[0]
    rounds.compared += 1
    assert entry.results["long"] == f"{'word ' * 19_999}word… (150000 characters)"
    assert len(entry.results["long"]) < LONGEST_TEXT + 50
    assert entry.results["many"] == [*range(LONGEST_LIST), "… (there are more)"]
    assert entry.results["keys"] == {"1": "a", "1'1": "b"}
    assert entry.results["nan"] == "nan"
    assert json.dumps(entry.results["deep"]).count("[") == DEEPEST - 1
    assert entry.results["kept"] == [1, 1.5, "x", None, True, {"a": {}}]
    assert entry.results["3"] == "three"
    assert entry.context["sanitised"] == 5


def test_times_and_numbers_that_tools_have(rounds: Rounds) -> None:
    told: list[tuple[Any, Any]] = [
        ("numpy time", np.datetime64("2023-06-15T10:30:22.123456789")),
        ("numpy false", np.False_),
        ("zone", datetime(2023, 6, 15, tzinfo=timezone(timedelta(hours=5, minutes=45)))),
        ("uuid", uuid.UUID(int=1)),
        ("time", time(10, 30)),
        ("site", Site.NORTH),
        ("level", Level.HIGH),
        ("decimal", decimal.Decimal("1.10")),
        ("fraction", fractions.Fraction(1, 3)),
        ("success", np.False_),
    ]
    record(Told("t", "o", [], told, [], None))
    entry = AuditService().recent_entries()[0]
    rounds.compared += 1
    assert entry.results == {
        "numpy time": "2023-06-15T10:30:22.123456789",
        "numpy false": False,
        "zone": "2023-06-15T00:00:00+05:45",
        "uuid": "00000000-0000-0000-0000-000000000001",
        "time": "10:30:00",
        "site": "north",
        "level": 10,
        "decimal": "1.10",
        "fraction": "1/3",
    }
    assert not entry.success


def test_a_pressed_key_is_not_swallowed() -> None:
    class Interrupted:
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Storable().convert([Interrupted()])


def test_errors_that_cannot_be_named(rounds: Rounds) -> None:
    class NamelessError(Exception, metaclass=NamelessType):
        def __str__(self) -> str:
            raise RuntimeError

    class OddExit(SystemExit):
        @property
        def code(self) -> Any:  # type: ignore[override]
            raise RuntimeError

    for kind in (NamelessError, OddExit):
        with pytest.raises(kind), log_custom_operation("tool", "x"):
            raise kind
    rounds.compare()
    assert rounds.compared == 2
