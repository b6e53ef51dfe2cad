"""Which operation ran inside which: the right one or none is named, and never a wrong one. And how one fails."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from audit_dagster import log_custom_operation
from audit_dagster.audit_service import AuditService
from audit_dagster.entry import LogEntry
from audit_dagster.recording import nesting, recorder
from audit_dagster.recording.nesting import PARENT_VARIABLE
from audit_dagster.settings import Settings

CHILD = "from audit_dagster import log_custom_operation as o\nimport sys\nwith o('tool', sys.argv[1]): pass"


@pytest.fixture(autouse=True)
def _no_code_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests lie in a repository of their own, at which nobody has to look each time."""
    monkeypatch.setattr(recorder, "_callers_file", lambda: None)
    monkeypatch.delenv(PARENT_VARIABLE, raising=False)


def operation(name: str) -> log_custom_operation:
    return log_custom_operation("tool", name)


def one(name: str) -> None:
    with operation(name):
        pass


def child(name: str) -> None:
    subprocess.run([sys.executable, "-c", CHILD, name], check=True)


def entries() -> dict[str, LogEntry]:
    return {entry.operation: entry for entry in AuditService().recent_entries(None)}


def parents() -> dict[str, str | None]:
    """The name of each operation's parent."""
    found = entries()
    names = {entry.operation_id: name for name, entry in found.items()}
    return {name: names.get(entry.context.get("parent_operation_id", "")) for name, entry in found.items()}


# ---- In one thread ----


def test_blocks_and_decorated_functions(settings: Settings) -> None:
    @operation("function")
    def function() -> None:
        one("in function")

    with operation("outer"):
        one("first")
        with operation("second"):
            one("deep")
        function()
        one("last")
    one("after")
    assert parents() == {
        "outer": None,
        "first": "outer",
        "second": "outer",
        "deep": "second",
        "function": "outer",
        "in function": "function",
        "last": "outer",
        "after": None,
    }


def test_after_an_exception_it_is_as_before(settings: Settings) -> None:
    with operation("outer"):
        with contextlib.suppress(ValueError), operation("failed"):
            raise ValueError
        one("next")
    assert parents() == {"outer": None, "failed": "outer", "next": "outer"}


def test_an_operation_that_is_not_recorded_is_nobodys_parent(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with operation("outer"):
        with monkeypatch.context() as patch:
            patch.setenv("POSTGRES_LOGGING_STATUS", "false")
            unrecorded = operation("unrecorded")
            unrecorded.__enter__()
        one("inner")
        unrecorded.__exit__(None, None, None)
    assert parents() == {"outer": None, "inner": "outer"}


# ---- Generators ----


def test_who_takes_from_a_generator_is_not_inside(settings: Settings) -> None:
    @operation("decorated")
    def decorated() -> Iterator[int]:
        one("in decorated")
        yield 1
        one("in decorated, later")

    def with_block() -> Iterator[int]:
        with operation("block"):
            yield from decorated()

    with operation("outer"):
        for _ in with_block():
            one("consumer")
            child("consumer's process")
        one("after")
    assert parents() == {
        "outer": None,
        "block": "outer",
        "decorated": "block",
        "in decorated": "decorated",
        "in decorated, later": "decorated",
        "consumer": "outer",
        "consumer's process": "outer",
        "after": "outer",
    }


def test_generators_that_end_in_the_midst_of_others(settings: Settings) -> None:
    def numbers(name: str) -> Iterator[int]:
        with operation(name):
            yield 1
            yield 2

    first, second = numbers("first"), numbers("second")
    next(first)
    with operation("outer"):
        next(second)
        first.close()
        one("inner")
        with operation("inner block"):
            second.close()
            one("deep")
        one("inner again")
    one("after")
    assert parents() == {
        "first": None,
        "second": "outer",
        "outer": None,
        "inner": "outer",
        "inner block": "outer",
        "deep": "inner block",
        "inner again": "outer",
        "after": None,
    }
    assert all(entry.success for entry in entries().values())


def test_a_generator_that_is_forgotten(settings: Settings) -> None:
    def numbers() -> Iterator[int]:
        with operation("forgotten"):
            yield 1

    next(numbers())
    gc.collect()
    one("after")
    assert parents() == {"forgotten": None, "after": None}
    assert nesting._running == {}


def test_what_contextlib_makes_a_block_of_is_a_block(settings: Settings) -> None:
    @contextlib.contextmanager
    def session() -> Iterator[None]:
        with operation("session"):
            yield

    @contextlib.asynccontextmanager
    async def connection() -> AsyncIterator[None]:
        with operation("connection"):
            yield

    async def connected() -> None:
        async with connection():
            one("in connection")

    with session():
        one("in session")
        child("process in session")
    with contextlib.ExitStack() as stack:
        stack.enter_context(operation("on the stack"))
        one("in the stack")
    asyncio.run(connected())
    one("after")
    assert parents() == {
        "session": None,
        "in session": "session",
        "process in session": "session",
        "on the stack": None,
        "in the stack": "on the stack",
        "connection": None,
        "in connection": "connection",
        "after": None,
    }


# ---- Tasks and threads ----


def test_tasks_at_once(settings: Settings) -> None:
    async def work(name: str) -> None:
        with operation(name):
            await asyncio.sleep(0.02)
            one(f"in {name}")
            await asyncio.sleep(0.02)
            await asyncio.to_thread(one, f"thread of {name}")

    async def all_at_once() -> None:
        with operation("outer"):
            await asyncio.gather(*(work(f"task {number}") for number in range(5)))

    asyncio.run(all_at_once())
    expected: dict[str, str | None] = {"outer": None}
    for number in range(5):
        name = f"task {number}"
        expected |= {name: "outer", f"in {name}": name, f"thread of {name}": name}
    assert parents() == expected


def test_a_task_that_goes_on_when_its_operation_has_ended(settings: Settings) -> None:
    async def work(started: asyncio.Event) -> None:
        await started.wait()
        one("in the task")

    async def main() -> None:
        event = asyncio.Event()
        with operation("outer"):
            task = asyncio.create_task(work(event))
            await asyncio.sleep(0)
        with operation("another"):
            event.set()
            await task

    asyncio.run(main())
    assert parents() == {"outer": None, "another": None, "in the task": None}


def test_async_generators(settings: Settings) -> None:
    async def numbers() -> AsyncIterator[int]:
        with operation("numbers"):
            for number in range(2):
                await asyncio.sleep(0)
                one(f"in numbers {number}")
                yield number

    async def main() -> None:
        async for number in numbers():
            one(f"consumer {number}")

    asyncio.run(main())
    assert parents() == {
        "numbers": None,
        "in numbers 0": "numbers",
        "in numbers 1": "numbers",
        "consumer 0": None,
        "consumer 1": None,
    }


def test_threads_at_once(settings: Settings) -> None:
    number = 8
    together = threading.Barrier(number)

    def work(name: str) -> None:
        for turn in range(5):
            with operation(f"{name}.{turn}"):
                together.wait()
                one(f"in {name}.{turn}")
                together.wait()

    names = [f"thread {each}" for each in range(number)]
    with operation("outer"):
        threads = [threading.Thread(target=work, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with ThreadPoolExecutor(2) as pool:
            pool.submit(contextvars.copy_context().run, one, "with a context").result()
            pool.submit(one, "without").result()
    found = parents()
    assert found.pop("with a context") == "outer"
    assert found.pop("without") is None
    assert found.pop("outer") is None
    assert len(found) == 2 * 5 * number
    for name, parent in found.items():
        assert parent == (name.removeprefix("in ") if name.startswith("in ") else None)
    assert PARENT_VARIABLE not in os.environ


def test_processes_of_threads_that_work_at_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is one for all: a child is told what is sure."""
    together = threading.Barrier(3)

    def work(name: str) -> None:
        with operation(name):
            together.wait()
            child(f"of {name}")
            together.wait()

    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with operation("alone"):
        child("of alone")
    assert parents() == {
        **dict.fromkeys(("one", "two", "three", "of one", "of two", "of three", "alone"), None),
        "of alone": "alone",
    }


def test_the_environment_is_as_it_was(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with operation("x"):
        assert os.environ[PARENT_VARIABLE] == nesting.current()
    assert PARENT_VARIABLE not in os.environ
    monkeypatch.setenv(PARENT_VARIABLE, "from above")
    with pytest.raises(KeyError), operation("y"):
        assert nesting.current() not in {None, "from above"}
        raise KeyError
    assert os.environ[PARENT_VARIABLE] == nesting.current() == "from above"
    assert entries()["y"].context["parent_operation_id"] == "from above"
    assert nesting._running == {}


def test_threads_that_begin_and_end_all_the_time_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PARENT_VARIABLE, "from above")
    wrong: list[str | None] = []

    def work(name: str) -> None:
        for turn in range(500):
            if nesting.current() != "from above":
                wrong.append(nesting.current())
            place = nesting.enter(f"{name}.{turn}")
            if nesting.current() != place:
                wrong.append(nesting.current())
            nesting.leave(place)

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(8)]
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switching)
    assert wrong == []
    assert os.environ[PARENT_VARIABLE] == "from above"


# ---- Processes ----


def test_a_fork_and_its_children(settings: Settings, tmp_path: Path) -> None:
    script = tmp_path / "forks.py"
    script.write_text(
        """
import os, sys, subprocess
from audit_dagster import log_custom_operation

def one(name):
    with log_custom_operation("tool", name):
        pass

read, write = os.pipe()
told, tell = os.pipe()
with log_custom_operation("tool", "outer"):
    if os.fork() == 0:
        one("fork")
        with log_custom_operation("tool", "in the fork"):
            one("deep in the fork")
            subprocess.run([sys.executable, "-c", sys.argv[1], "process of the fork"], check=True)
        os.write(tell, b"x")
        os.read(read, 1)
        one("fork, after outer")
        os._exit(0)
    one("parent")
    os.read(told, 1)
os.write(write, b"x")
os.wait()
"""
    )
    subprocess.run([sys.executable, script, CHILD], check=True)
    assert parents() == {
        "outer": None,
        "fork": "outer",
        "in the fork": "outer",
        "deep in the fork": "in the fork",
        "process of the fork": "in the fork",
        "fork, after outer": None,
        "parent": "outer",
    }


def test_a_fork_that_walks_out_of_the_block(settings: Settings) -> None:
    """It ends no operation but its own."""
    code = """
import os
from audit_dagster import log_custom_operation
with log_custom_operation("tool", "outer"):
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
with log_custom_operation("tool", "after" if pid else "after in the fork"):
    pass
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert parents() == {"outer": None, "after": None, "after in the fork": "outer"}
    assert all(entry.success for entry in entries().values())


WORKERS = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from audit_dagster import log_custom_operation

def work(name):
    with log_custom_operation("tool", name):
        with log_custom_operation("tool", f"deep {name}"):
            pass

def fail(name):
    with log_custom_operation("tool", name):
        raise LookupError(name)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    executor = ProcessPoolExecutor(1, mp_context=context)
    def process(name):
        started = context.Process(target=work, args=(name,))
        started.start()
        started.join()
    with log_custom_operation("tool", "first"):
        pool = context.Pool(1)
        process("process of first")
        pool.apply(work, ["pool of first"])
        executor.submit(work, "executor of first").result()
        try:
            executor.submit(fail, "failure of first").result()
        except LookupError:
            pass
    with log_custom_operation("tool", "second"):
        process("process of second")
        pool.apply(work, ["pool of second"])
        executor.submit(work, "executor of second").result()
    process("process of none")
    pool.apply(work, ["pool of none"])
    executor.shutdown()
    pool.close()
    pool.join()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(settings: Settings, tmp_path: Path, method: str) -> None:
    """Workers outlive the operation in which they began: then they name it no longer."""
    script = tmp_path / "work.py"
    script.write_text(WORKERS)
    subprocess.run([sys.executable, script, method], check=True)
    found = parents()
    assert len(found) == 2 + 2 * 8 + 1
    for name, parent in found.items():
        if name.startswith("deep "):
            assert parent == name.removeprefix("deep ")
        elif name.endswith((" of first", " of none")):
            assert parent == ("first" if name.endswith("first") else None), name
        elif name.endswith(" of second"):
            assert parent in {"second", None}, name
        else:
            assert parent is None
    if method != "forkserver":  # whose server was told of the first for good
        assert found["process of second"] == "second"
    failure = entries()["failure of first"]
    assert (failure.success, failure.error_message) == (False, "LookupError: failure of first")
    assert "raise LookupError(name)" in failure.context["traceback"]


def test_run_and_what_it_starts(settings: Settings) -> None:
    run = [sys.executable, "-m", "audit_dagster.cli", "run"]
    inner = [*run, "--operation", "inner", "--", sys.executable, "-c", CHILD, "innermost"]
    with operation("outer"):
        subprocess.run([*run, "--operation", "middle", "--", *inner], check=True)
    assert parents() == {"outer": None, "middle": "outer", "inner": "middle", "innermost": "inner"}


# ---- Exceptions ----


def chained() -> None:
    try:
        raise KeyError("the cause")
    except KeyError as cause:
        raise RuntimeError("what came of it") from cause


def deep(number: int = 0) -> None:
    deep(number + 1)


def alternating(number: int = 0) -> None:
    if number == 400:
        raise ValueError("at the bottom")
    (lambda: alternating(number + 1))()


def grouped() -> None:
    raise ExceptionGroup(
        "several", [ValueError("one"), ExceptionGroup("more", [TypeError("two"), OSError(3, "three")])]
    )


def angry() -> None:
    class AngryError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("leave me alone")

    raise AngryError


def lying() -> None:
    class Text(str):
        __slots__ = ()

        def __len__(self) -> int:
            raise RuntimeError

        def __format__(self, _spec: str) -> str:
            raise RuntimeError

    class LyingError(Exception):
        def __str__(self) -> str:
            return Text("it lies")

    raise LyingError


def odd_syntax() -> None:
    error = SyntaxError("odd")
    error.filename, error.lineno, error.offset, error.text = "x.py", "no number", "neither", "text"  # type: ignore[assignment]
    raise error


def cyclic() -> None:
    error = ValueError("round")
    other = KeyError("and round")
    error.__cause__, other.__cause__ = other, error
    raise error


def with_notes() -> None:
    error = ValueError("noted")
    error.add_note("at station 4")
    error.__notes__ += [3]
    raise error


FAILURES: list[tuple[Callable[[], object], str, list[str]]] = [
    (chained, "RuntimeError: what came of it", ["KeyError: 'the cause'", "direct cause", "raise RuntimeError("]),
    (deep, "RecursionError: maximum recursion depth exceeded", ["deep(number + 1)", "RecursionError"]),
    (alternating, "ValueError: at the bottom", ['raise ValueError("at the bottom")']),
    (grouped, "ExceptionGroup: several (2 sub-exceptions)", ["ValueError: one", "TypeError: two", "three"]),
    (angry, "AngryError: <no text>", ["AngryError: <exception str() failed>"]),
    (lying, "LyingError: it lies", ["raise LyingError"]),
    (odd_syntax, "SyntaxError: odd (x.py)", ["<no traceback: TypeError>"]),
    (cyclic, "ValueError: round", ["and round"]),
    (with_notes, "ValueError: noted", ["at station 4"]),
    (lambda: int("x" * 50_000_000), "ValueError: ", ["…"]),
    (lambda: (_ for _ in ()).throw(LookupError("word " * 10_000_000)), "LookupError: word word", ["word word"]),
    (lambda: (_ for _ in ()).throw(ValueError("lone \ud800, nul \0")), "ValueError: lone \\ud800, nul \\u0000", []),
    (lambda: (_ for _ in ()).throw(ValueError), "ValueError", []),
]


@pytest.mark.parametrize(("fail", "message", "parts"), FAILURES, ids=[each[0].__name__ for each in FAILURES])
def test_exceptions_are_recorded_and_go_on_their_way(
    settings: Settings, fail: Callable[[], object], message: str, parts: list[str]
) -> None:
    raised: list[Any] = []

    def work() -> None:
        try:
            fail()
        except Exception as error:
            raised.append((error, error.__traceback__, error.__cause__, error.__context__, error.args))
            raise

    try:
        with operation("x"):
            work()
    except Exception as error:
        caught = error
    first, trace, *rest = raised[0]
    assert caught is first
    assert [caught.__cause__, caught.__context__, caught.args] == rest
    steps = caught.__traceback__
    assert steps is not None
    assert steps.tb_frame is sys._getframe()
    assert steps.tb_next is trace
    assert (entries()["x"].error_message or "").startswith(message)
    assert len(entries()["x"].error_message or "") <= 10_100
    text = entries()["x"].context["traceback"]
    assert len(text) <= 20_100
    for part in parts:
        assert part in text or part == "…"


def test_a_hundred_causes(settings: Settings) -> None:
    cause: Exception | None = None
    with pytest.raises(KeyError, match="key 100"), operation("x"):
        for number in range(101):
            try:
                raise KeyError(f"key {number} {'x' * 500}") from cause
            except KeyError as error:
                cause = error
        raise KeyError("key 100") from cause
    text = entries()["x"].context["traceback"]
    assert text.endswith("KeyError: 'key 100'\n")
    assert len(text) <= 20_000


def test_a_traceback_that_cannot_be_told_costs_nothing_else(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> list[str]:
        raise RuntimeError

    monkeypatch.setattr("traceback.format_exception", refuse)
    with pytest.raises(ValueError, match="x"), operation("x"):
        raise ValueError("x")
    entry = entries()["x"]
    assert (entry.error_message, entry.context["traceback"]) == ("ValueError: x", "<no traceback: RuntimeError>")


def test_an_end_that_cannot_be_told_is_an_end(
    settings: Settings, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_warned", False)
    with operation("x") as logger:
        logger._recording._words = None  # type: ignore[assignment]
        logger._recording._watch = None  # type: ignore[assignment]
    entry = entries()["x"]
    assert entry.success
    assert entry.error_message is None
    assert entry.context["incomplete"].startswith("AttributeError")
    assert "is not recorded" in capfd.readouterr().err
