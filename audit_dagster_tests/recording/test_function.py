"""`recorded`: real functions of every shape, what is recorded of their calls, and that they stay what they are."""

from __future__ import annotations

import asyncio
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from audit_dagster import log_custom_operation, recorded
from audit_dagster.settings import Settings
from audit_dagster_tests.recording.stored import entries, only_entry

GUIDE = (Path(__file__).parents[2] / "docs" / "guide.md").read_text("utf-8")


pytestmark = pytest.mark.usefixtures("unwarned", "without_drainer")


def test_the_guides_examples(settings: Settings) -> None:
    _, _, section = GUIDE.partition("\n### A function of your own\n")
    blocks = re.findall(r"^  ```python\n(.*?)^  ```$", section.partition("\n### ")[0], re.DOTALL | re.MULTILINE)
    for block in blocks:
        subprocess.run([sys.executable, "-c", textwrap.dedent(block)], check=True)
    found = [(entry.tool_name, entry.operation, entry.parameters, entry.results) for entry in entries()]
    assert found == [
        ("my_analysis", "clean", {"path": "turf.csv", "threshold": 0.5}, {"rows": 1200}),
        ("my_analysis", "smooth table", {"table": [20.5, 21.0, 21.5]}, {"rows": 3}),
    ]


def test_arguments_are_parameters_and_a_mapping_is_results(settings: Settings, tmp_path: Path) -> None:
    @recorded(tool="my_analysis")
    def clean(path: Path, threshold: float = 0.5, *sites: str, strict: bool = False, **more: int) -> dict[str, int]:
        """Clean a table."""
        return {"rows": 3}

    (tmp_path / "turf.csv").write_text("1,2")
    assert clean(Path("turf.csv"), 0.5, "a", depth=4) == {"rows": 3}
    entry = only_entry()
    assert (entry.tool_name, entry.operation, entry.success) == ("my_analysis", "clean", True)
    assert entry.parameters == {"path": "turf.csv", "threshold": 0.5, "sites": ["a"], "strict": False, "depth": 4}
    assert entry.context["default_parameters"] == ["strict"]
    assert entry.results == {"rows": 3}
    assert [file["path"] for file in entry.context["inputs"]] == [str(tmp_path / "turf.csv")]
    assert entry.context["tool"]["file"] == __file__
    assert (clean.__name__, clean.__doc__) == ("clean", "Clean a table.")
    assert list(inspect.signature(clean).parameters) == ["path", "threshold", "sites", "strict", "more"]


def test_each_call_is_one_operation_and_the_parameters_are_there_from_the_start(settings: Settings) -> None:
    running = []

    @recorded("tool", "named")
    def dig(depth: int) -> None:
        (file,) = settings.spool_dir.glob("*.op")
        running.append(f'"parameters":{{"depth":{depth}}}' in file.read_text())

    dig(1)
    entries()
    dig(depth=2)
    assert running == [True, True]
    assert [(e.operation, e.parameters, e.results) for e in entries()] == [
        ("named", {"depth": 1}, {}),
        ("named", {"depth": 2}, {}),
    ]


def test_results_are_picked_out_of_what_is_returned(settings: Settings) -> None:
    @recorded("tool", results=lambda rows: {"rows": len(rows)})
    def read() -> list[int]:
        return [1, 2]

    assert read() == [1, 2]
    assert only_entry().results == {"rows": 2}


@pytest.mark.parametrize("pick", [lambda _: 1 / 0, lambda _: 5, lambda _: None, lambda _: {"deep": object}, len])
def test_picking_that_fails_harms_nobody(settings: Settings, pick: Any, capsys: pytest.CaptureFixture[str]) -> None:
    @recorded("tool", results=pick)
    def read() -> int:
        return 7

    assert read() == 7
    assert only_entry().success
    assert len(capsys.readouterr().err.splitlines()) <= 1


def test_a_result_can_say_that_it_failed(settings: Settings) -> None:
    @recorded("tool")
    def check() -> dict[str, Any]:
        return {"success": False}

    check()
    assert not only_entry().success


@pytest.mark.parametrize(
    ("error", "success", "message"),
    [
        (ValueError("dry"), False, "ValueError: dry"),
        (SystemExit(0), True, None),
        (SystemExit(3), False, "SystemExit: 3"),
        (KeyboardInterrupt(), False, "KeyboardInterrupt"),
    ],
)
def test_exceptions_go_on_their_way(
    settings: Settings, error: BaseException, success: bool, message: str | None
) -> None:
    @recorded("tool")
    def dig() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        dig()
    assert caught.value is error
    assert (only_entry().success, only_entry().error_message) == (success, message)
    assert ("dig" in only_entry().context.get("traceback", "")) == (not success)


def test_a_wrong_call_fails_as_it_does_without(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    def dig(depth: int) -> None:
        pass

    for call in (dig, recorded("tool")(dig)):
        with pytest.raises(TypeError, match=r"dig\(\) got an unexpected keyword argument 'width'"):
            call(width=3)  # type: ignore[call-arg]
    assert only_entry().error_message.endswith("unexpected keyword argument 'width'")  # type: ignore[union-attr]
    assert capsys.readouterr().err == ""


class Plot:
    def __init__(self, site: str) -> None:
        self.site = site

    @recorded("plots")
    def water(self, litres: int) -> str:
        return f"{self.site} {litres}"

    @classmethod
    @recorded("plots")
    def make(cls, site: str) -> Plot:
        return cls(site)

    @recorded("plots")
    @classmethod
    def found(cls, site: str) -> Plot:
        return cls(site)

    @recorded("plots")
    @staticmethod
    def measure(deep: bool) -> int:
        return int(deep)


def test_methods_of_every_kind(settings: Settings) -> None:
    plot = Plot.make("north")
    assert (Plot.found("south").site, plot.water(5), Plot.measure(True), plot.measure(False)) == (
        "south",
        "north 5",
        1,
        0,
    )
    found = [(entry.operation, entry.parameters) for entry in entries()]
    assert found == [
        ("make", {"site": "north"}),
        ("found", {"site": "south"}),
        ("water", {"litres": 5}),
        ("measure", {"deep": True}),
        ("measure", {"deep": False}),
    ]


def test_a_coroutine_is_recorded_to_its_end(settings: Settings) -> None:
    @recorded("tool")
    async def fetch(site: str) -> dict[str, str]:
        await asyncio.sleep(0.05)
        if site == "south":
            raise ConnectionError("no answer")
        return {"site": site}

    async def both() -> list[Any]:
        return await asyncio.gather(fetch("north"), fetch("south"), return_exceptions=True)

    assert inspect.iscoroutinefunction(fetch)
    assert asyncio.run(both())[0] == {"site": "north"}
    found = {entry.parameters["site"]: entry for entry in entries()}
    assert found["north"].results == {"site": "north"}
    assert found["south"].error_message == "ConnectionError: no answer"
    assert all((entry.duration_seconds or 0) >= 0.05 for entry in found.values())


def test_a_generator_is_recorded_from_its_first_item_to_its_end(settings: Settings) -> None:
    @recorded("tool")
    def rows(count: int) -> Iterator[int]:
        got = 0
        for number in range(count):
            got += (yield number) or 0
        return {"got": got}

    assert inspect.isgeneratorfunction(rows)
    rows(9)  # never begun
    assert list(rows(3)) == [0, 1, 2]
    answered = rows(2)
    next(answered)
    assert answered.send(5) == 1
    with pytest.raises(StopIteration):
        answered.send(6)
    for _ in rows(4):
        break  # enough is no failure
    thrown = rows(5)
    next(thrown)
    with pytest.raises(KeyError):
        thrown.throw(KeyError("site"))
    found = [(e.parameters["count"], e.results, e.error_message) for e in entries()]
    assert found == [
        (3, {"got": 0}, None),
        (2, {"got": 11}, None),
        (4, {}, None),
        (5, {}, "KeyError: 'site'"),
    ]


def test_an_async_generator_stays_one(settings: Settings) -> None:
    heard: list[Any] = []

    @recorded("tool")
    async def stream(count: int) -> AsyncIterator[int]:
        try:
            for number in range(count):
                try:
                    heard.append((yield number))
                except LookupError:
                    heard.append("caught")
        finally:
            heard.append("closed")

    async def listen() -> None:
        assert [number async for number in stream(2)] == [0, 1]
        answered = stream(9)
        assert [await anext(answered), await answered.asend("a"), await answered.athrow(LookupError())] == [0, 1, 2]
        await answered.aclose()
        failing = stream(3)
        await anext(failing)
        with pytest.raises(ZeroDivisionError):
            await failing.athrow(ZeroDivisionError())

    asyncio.run(listen())
    assert heard == [None, None, "closed", "a", "caught", "closed", "closed"]
    found = [(e.parameters["count"], e.error_message) for e in entries()]
    assert found == [(2, None), (9, None), (3, "ZeroDivisionError")]


def test_a_call_inside_an_operation_knows_it(settings: Settings) -> None:
    @recorded("tool")
    def inner() -> None:
        pass

    with log_custom_operation("tool", "outer"):
        inner()
    outer, inside = entries()
    assert inside.context["parent_operation_id"] == outer.operation_id


def test_a_large_table_is_not_spelled_out(settings: Settings) -> None:
    import numpy as np
    import pandas as pd

    @recorded("tool")
    def double(table: pd.DataFrame, weights: Any) -> dict[str, Any]:
        return {"table": table * 2, "mean": np.float64(1.5), "head": np.arange(2)}

    double(pd.DataFrame(np.zeros((500_000, 4))), np.zeros(3))
    assert only_entry().parameters == {"table": "<DataFrame of shape (500000, 4)>", "weights": [0.0, 0.0, 0.0]}
    assert only_entry().results == {"table": "<DataFrame of shape (500000, 4)>", "mean": 1.5, "head": [0, 1]}


def test_secrets_among_the_arguments_are_hidden(settings: Settings) -> None:
    @recorded("tool")
    def login(user: str, db_password: str) -> None:
        pass

    login("ada", "hunter2-hunter2")
    assert only_entry().parameters == {"user": "ada", "db_password": "${SECRET:DB_PASSWORD}"}


def test_what_python_cannot_look_into_is_still_called(settings: Settings) -> None:
    biggest = recorded("tool", "biggest")(max)
    assert biggest([1, 5]) == 5
    assert only_entry().success


def test_inspect_comes_with_the_first_call_and_an_unwritable_spool_costs_one_line(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir(exist_ok=True)
    (tmp_path / "state" / "spool").write_text("in the way")
    code = (
        "import sys\n"
        "from audit_dagster import recorded\n"
        "@recorded('tool')\n"
        "def dig(depth): print('inspect' in sys.modules, depth)\n"
        "print('inspect' in sys.modules)\n"
        "dig(1); dig(2)\n"
        "raise SystemExit(5)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (5, "False\nTrue 1\nTrue 2\n")
    assert len(done.stderr.splitlines()) == 1


def test_without_the_name_of_a_tool_it_is_no_decorator() -> None:
    def dig() -> None:
        pass

    with pytest.raises(TypeError, match="recorded needs the name of a tool"):
        recorded(dig)  # type: ignore[arg-type]
