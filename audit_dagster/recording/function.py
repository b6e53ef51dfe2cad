"""`recorded`: a decorator that records each call of a function, with its arguments and what it returned."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from audit_dagster.recording.recorder import harmless, log_custom_operation

if TYPE_CHECKING:
    from inspect import Signature

_Function = TypeVar("_Function", bound=Callable[..., Any])
_GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x200  # of a code object's flags; importing inspect costs 10 ms


def recorded(
    tool: str, operation: str | None = None, results: Callable[[Any], Mapping[str, Any]] | None = None
) -> Callable[[_Function], _Function]:
    """Record each call of a function, method, coroutine or generator as an operation of `tool`.

    ::

        @recorded("my_analysis", results=lambda table: {"rows": len(table)})
        def clean(path: Path, threshold: float = 0.5) -> Table: ...

    The arguments become its parameters, without `self` and `cls`. What the function returns becomes its results where
    that is a mapping; otherwise `results` can make a mapping of it. `operation` is the function's name if not given.
    An exception is recorded and goes on its way. Nothing that fails in recording reaches the caller.
    """

    def decorate(function: Any) -> Any:
        if isinstance(function, (classmethod, staticmethod)):
            return type(function)(decorate(function.__func__))
        return _in_its_shape(function, _Calls(function, tool, operation, results))

    return cast("Callable[[_Function], _Function]", decorate)


def _in_its_shape(function: Any, calls: _Calls) -> Any:
    """The recording function is called, awaited or iterated over, as the function itself is."""

    @wraps(function)
    def called(*arguments: Any, **keywords: Any) -> Any:
        with calls.begin(arguments, keywords) as logger:
            return calls.keep(logger, function(*arguments, **keywords))

    @wraps(function)
    async def awaited(*arguments: Any, **keywords: Any) -> Any:
        with calls.begin(arguments, keywords) as logger:
            return calls.keep(logger, await function(*arguments, **keywords))

    @wraps(function)
    def generated(*arguments: Any, **keywords: Any) -> Any:
        # Who has taken enough closes it: that is no failure.
        with calls.begin(arguments, keywords) as logger, contextlib.suppress(GeneratorExit):
            return calls.keep(logger, (yield from function(*arguments, **keywords)))

    @wraps(function)
    async def async_generated(*arguments: Any, **keywords: Any) -> AsyncIterator[Any]:
        with calls.begin(arguments, keywords), contextlib.suppress(StopAsyncIteration):
            source = function(*arguments, **keywords)
            following = anext(source)
            while True:
                item = await following
                try:
                    following = source.asend((yield item))
                except GeneratorExit:
                    await source.aclose()
                    return
                except BaseException as error:
                    following = source.athrow(error)

    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    shapes = ((_COROUTINE, awaited), (_GENERATOR, generated), (_ASYNC_GENERATOR, async_generated))
    return next((shape for flag, shape in shapes if flags & flag), called)


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
            logger._code_file = getattr(getattr(self._function, "__code__", None), "co_filename", None)
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
