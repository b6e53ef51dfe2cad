"""`recorded`: a decorator that records each call of a function, with its arguments and what it returned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

from audit_dagster.recording.recorder import harmless, log_custom_operation
from audit_dagster.recording.shapes import in_its_shape
from audit_dagster.recording.tool_code import file_of

if TYPE_CHECKING:
    from inspect import Signature

_Function = TypeVar("_Function", bound=Callable[..., Any])


def recorded(
    tool: str, operation: str | None = None, results: Callable[[Any], Mapping[str, Any]] | None = None
) -> Callable[[_Function], _Function]:
    """Record each call of a function, method, coroutine or generator as an operation of `tool`.

    ::

        @recorded("my_analysis", results=lambda table: {"rows": len(table)})
        def clean(path: Path, threshold: float = 0.5) -> Table: ...

    The arguments become its parameters, without `self` and `cls`. What the function returns becomes its results where
    that is a mapping; otherwise `results` can make a mapping of it. `operation` is the function's name if not given.
    An exception is recorded and goes on its way. Nothing that fails in recording reaches the caller. Raises TypeError
    where the tool is no text, as in `@recorded` alone.
    """
    if not isinstance(tool, str):
        raise TypeError('recorded needs the name of a tool: @recorded("my_analysis")')

    def decorate(function: Any) -> Any:
        if isinstance(function, (classmethod, staticmethod)):
            return type(function)(decorate(function.__func__))
        calls = _Calls(function, tool, operation, results)
        return in_its_shape(function, calls.begin, calls.keep)

    return cast("Callable[[_Function], _Function]", decorate)


class _Calls:
    """What the calls of one function are recorded as."""

    def __init__(
        self, function: Any, tool: str, operation: str | None, results: Callable[[Any], Mapping[str, Any]] | None
    ) -> None:
        self._function = function
        self._tool = tool
        self._operation = str(operation or getattr(function, "__name__", type(function).__name__))
        self._results = results

    def begin(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> log_custom_operation:
        """The logger of one call, with its parameters."""
        logger = log_custom_operation(self._tool, self._operation)
        with harmless("the parameters of a call are not recorded"):
            logger._code_file = file_of(self._function)
            self._tell_parameters(logger, arguments, keywords)
        return logger

    def keep(self, logger: log_custom_operation, returned: Any) -> Any:
        """Record what a call returned, and return it."""
        with harmless("the results of a call are not recorded"):
            results = self._results(returned) if self._results else returned
            if isinstance(results, Mapping):
                for name, value in results.items():
                    logger.add_result(name, value)
        return returned

    def _tell_parameters(
        self, logger: log_custom_operation, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        try:
            bound = self._signature.bind(*arguments, **keywords)
        except TypeError:  # a wrong call: the function itself says so
            return
        given = set(bound.arguments)
        bound.apply_defaults()
        for position, (name, value) in enumerate(bound.arguments.items()):
            kind = self._signature.parameters[name].kind
            if kind is kind.VAR_KEYWORD:
                for keyword, item in value.items():
                    logger.add_parameter(keyword, item)
            elif (position or name not in {"self", "cls"}) and not (kind is kind.VAR_POSITIONAL and not value):
                logger.add_parameter(name, value)
        recording = logger._recording
        recording.context["default_parameters"] = sorted(recording.parameters.keys() & bound.arguments.keys() - given)

    @cached_property
    def _signature(self) -> Signature:
        import inspect

        return inspect.signature(self._function)
