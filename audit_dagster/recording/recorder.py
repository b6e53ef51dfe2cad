"""`log_custom_operation`: records a block of code as one operation.

Every failure of recording is caught, told once on stderr, counted, and never changes what the recorded code does.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from os import PathLike
from types import TracebackType
from typing import Any, cast

from audit_dagster.errors import AuditError
from audit_dagster.recording import capture, drainer, nesting
from audit_dagster.recording.failure import error_text, is_clean_exit, traceback_text
from audit_dagster.recording.files import Watch
from audit_dagster.recording.git_state import GitState
from audit_dagster.recording.held import held
from audit_dagster.recording.redact import Redactor
from audit_dagster.recording.spool import SpoolFile, keep_patch, patches_folder
from audit_dagster.recording.storable import Storable, beginning, ending
from audit_dagster.recording.switch import read_switch
from audit_dagster.settings import Settings

_LONGEST_NAME = 500  # an index of PostgreSQL takes 2,700 bytes
_LONGEST_ERROR = 10_000
_LONGEST_TRACEBACK = 20_000
_warned = False
Json = dict[str, Any]


class Recording:
    """One operation being recorded, from `start` to `finish`. Nothing in it raises."""

    def __init__(self, tool_name: str, operation: str) -> None:
        self.tool_name = Storable(_LONGEST_NAME).text(tool_name)
        self.operation = Storable(_LONGEST_NAME).text(operation)
        self.operation_id: str | None = None
        self.parameters: Json = {}
        self.results: Json = {}
        self.notes: list[str] = []
        self.context: Json = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.secret_parameters: set[str] = set()
        self._settings: Settings | None = None
        self._file: SpoolFile | None = None
        self._redactor = Redactor({})
        self._words: list[str] = []
        self._watch = Watch((), "/")
        self._started = time.monotonic()

    def start(
        self, command: list[str] | None, *, started: datetime | None = None, code_file: str | None = None
    ) -> None:
        """Capture what is known now and open the spool file. `code_file` holds the tool's own code."""
        with harmless("this operation is not recorded", loses=True):
            settings = Settings.for_recording()
            if read_switch(settings).enabled:
                self._begin(settings, capture.Questions(code_file), command, started)
                self._settings = settings
        if self._settings and self._settings.problem:
            warn(f"operations wait in the spool until this is mended: {self._settings.problem}")
        self._started = time.monotonic()

    def _begin(
        self,
        settings: Settings,
        questions: capture.Questions,
        command: list[str] | None,
        started: datetime | None,
    ) -> None:
        self._redactor = Redactor({**os.environ, **settings.given}, self.secret_parameters)
        self._words = (command or [])[1:]
        self._redactor.argv(capture.kept_words(command) or ())  # first, for what it teaches
        told = self._told(Storable())
        self._watch = Watch([self.inputs, self._words, told["parameters"]], questions.directory or "/")
        context = dict(self.context)
        if self._watch.inputs:
            context["inputs"] = self._watch.inputs
        begin = capture.begin_form(self.tool_name, self.operation, questions, context, started)
        parent = begin.form["context"].get("parent_operation_id")
        if parent and not nesting.goes_on(parent, settings.spool_dir):
            del begin.form["context"]["parent_operation_id"]
        for state, facts in begin.dirty:
            facts["patch"] = self._patch(settings, state)
        form = capture.written_form({**Storable().convert(begin.form), **told}, command, self._redactor)
        self._file = SpoolFile(settings.spool_dir, form)
        self.operation_id = form["operation_id"]

    def finish(self, *, success: bool, error_message: str | None, error: BaseException | None = None) -> None:
        """Write the end and wake the drainer. `error` is where the traceback comes from."""
        duration = max(0.0, time.monotonic() - self._started)
        if self._file is None or self._settings is None:
            return
        with harmless("the end of this operation is not recorded", loses=True):
            outcome = {"success": success, "duration_seconds": duration}
            try:
                end = self._end(error_message, error)
            except Exception as failure:
                self._file.finish({**outcome, "error_message": None, "context": {"incomplete": error_text(failure)}})
                raise
            self._file.finish({**end, **outcome})
        with harmless("operations wait in the spool, and nobody could be started to store them"):
            drainer.wake(self._settings)

    def _end(self, error_message: str | None, error: BaseException | None) -> Json:
        self._redactor.learn(os.environ)  # a tool may have read its `.env` meanwhile
        storable = Storable()
        end = self._told(storable)
        end["results"] = storable.convert(self.results)
        end["error_message"] = error_message and storable.convert(beginning(error_message, _LONGEST_ERROR))
        context = self._files(end)
        if error is not None:
            context["traceback"] = ending(traceback_text(error), _LONGEST_TRACEBACK)
        end["context"] = storable.convert(context)
        if storable.changed:
            end["context"]["sanitised"] = storable.changed
        return self._redactor.form(end)

    def _told(self, storable: Storable) -> Json:
        """Parameters and note."""
        return {
            "parameters": storable.convert(self.parameters),
            "note": storable.convert("\n".join(self.notes)) or None,
        }

    def _files(self, end: Json) -> Json:
        """The files that were named late, and those that were made or changed."""
        outputs = [self.outputs, end["results"]]
        read, made = self._watch.ended(self.inputs, end["parameters"], self._words, outputs)
        late = {"inputs": read} if read != self._watch.inputs else {}
        return {**late, "outputs": made} if made else late

    def _patch(self, settings: Settings, state: GitState) -> Json:
        from audit_dagster.recording.patch import make_patch, patch_facts

        try:
            patch = make_patch(state, self._redactor, patches_folder(settings.spool_dir))
            return patch_facts(patch, keep_patch(settings.spool_dir, patch.content))
        except Exception as error:  # the operation is worth recording without it
            return {"error": f"no patch: {error}"}


class log_custom_operation:  # noqa: N801 - the documented name
    """Record a block as an operation of `tool_name`.

    ::

        with log_custom_operation("custom_analysis", "statistical_summary") as logger:
            logger.add_result("mean_temperature", 21.5)
            logger.add_note("Statistical summary of temperature data")

    An exception inside is recorded and goes on its way; a result `success` that is false marks the operation as
    failed. Logging that is switched off, or that fails, changes nothing for the block.
    """

    def __init__(self, tool_name: str, operation: str, *, started: datetime | None = None) -> None:
        """`started` replaces the time of the start, for who re-enacts an earlier day."""
        self._name = Storable().convert(tool_name), Storable().convert(operation), started
        self._active: list[tuple[Recording, nesting.Place]] = []
        self._code_file: str | None = None
        self._next = self._new()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Record each call, from its beginning to its end: a coroutine's and a generator's too."""
        from audit_dagster.recording.shapes import in_its_shape

        return cast("Callable[..., Any]", in_its_shape(function, lambda *_: self._again(function)))

    def _again(self, function: Callable[..., Any]) -> log_custom_operation:
        from audit_dagster.recording.tool_code import file_of

        tool_name, operation, started = self._name
        again = log_custom_operation(tool_name, operation, started=started)
        again._code_file = file_of(function)
        return again

    def add_parameter(self, name: str, value: Any) -> None:
        """Note one of the operation's inputs."""
        with harmless("a parameter is not recorded"):
            self._recording.parameters[_key(name)] = value

    def add_result(self, name: str, value: Any) -> None:
        """Note one of the operation's outcomes."""
        with harmless("a result is not recorded"):
            self._recording.results[_key(name)] = value

    def add_note(self, note: str) -> None:
        """Say something in your own words; several notes become lines of one."""
        with harmless("a note is not recorded"):
            self._recording.notes.append(str(Storable().convert(note)))

    def add_input(self, path: str | PathLike[str]) -> None:
        """Name a file that the operation reads, beside those that its command and parameters name.

        Its SHA-256, size and time of change are recorded: at the start if it was named before, else at the end.
        """
        with harmless("an input is not recorded"):
            self._recording.inputs.append(os.fsdecode(path))

    def add_output(self, path: str | PathLike[str]) -> None:
        """Name a file that the operation makes, beside those that its results name."""
        with harmless("an output is not recorded"):
            self._recording.outputs.append(os.fsdecode(path))

    def __enter__(self) -> log_custom_operation:
        code_file = self._code_file or _callers_file()
        before = len(self._active)
        try:
            with held():
                recording, self._next = self._next, self._new()
                recording.start(capture.process_command(), started=self._name[2], code_file=code_file)
                self._active.append((recording, nesting.enter(recording.operation_id)))
        except BaseException as error:  # a signal's handler: there will be no block to leave
            if len(self._active) > before:
                self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with held():
            recording, place = self._active.pop(self._latest())
            nesting.leave(place)
            if error is None or is_clean_exit(error):
                success = Storable().convert(recording.results.get("success", True)) is not False  # numpy's False, too
                recording.finish(success=success, error_message=None)
            else:
                recording.finish(success=False, error_message=error_text(error), error=error)

    @property
    def _recording(self) -> Recording:
        return self._active[self._latest()][0] if self._active else self._next

    def _latest(self) -> int:
        """The last block that was entered here, for several threads or tasks may share a logger; else of all."""
        here = (number for number in reversed(range(len(self._active))) if nesting.is_around(self._active[number][1]))
        return next(here, -1)

    def _new(self) -> Recording:
        tool_name, operation, _ = self._name
        return Recording(str(tool_name), str(operation))


@contextlib.contextmanager
def harmless(consequence: str, *, loses: bool = False) -> Iterator[None]:
    """Swallow whatever recording raises; say so once per process, and count the operation where it is lost by that."""
    try:
        with held():
            yield
    except Exception as error:
        if loses:
            _count_loss()
        warn(f"{consequence}: {error_text(error)}")


def warn(text: str) -> None:
    """One line on stderr, once per process."""
    global _warned  # noqa: PLW0603 - once per process is what it says
    if not _warned:
        _warned = True
        with contextlib.suppress(Exception):
            print(f"audit-dagster: {text}", file=sys.stderr)  # noqa: T201


def _count_loss() -> None:
    with contextlib.suppress(Exception):
        from audit_dagster.recording import losses

        try:
            settings = Settings.for_recording()
        except AuditError:
            settings = None
        losses.count(settings)


def _key(name: Any) -> str:
    return str.__str__(name) if issubclass(type(name), str) else str(Storable().convert(name))


def _callers_file() -> str | None:
    """The file of the code that entered the block."""
    frame = sys._getframe(2)
    while frame.f_back and frame.f_code.co_filename in {__file__, contextlib.__file__}:
        frame = frame.f_back
    return frame.f_code.co_filename


__all__ = ["Recording", "error_text", "harmless", "is_clean_exit", "log_custom_operation"]
