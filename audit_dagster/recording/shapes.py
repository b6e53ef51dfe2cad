"""A function that is recorded is called, awaited or iterated over as it is itself, from its beginning to its end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from functools import wraps
from typing import Any

from audit_dagster.recording.recorder import log_custom_operation

_GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x200  # of a code object's flags; importing inspect costs 10 ms


def in_its_shape(
    function: Any,
    begin: Callable[[tuple[Any, ...], dict[str, Any]], log_custom_operation],
    keep: Callable[[log_custom_operation, Any], Any] = lambda _, returned: returned,
) -> Any:
    """`function` with each call in a block of the logger that `begin` makes of its arguments.

    What it returned goes through `keep`.
    """

    @wraps(function)
    def called(*arguments: Any, **keywords: Any) -> Any:
        with begin(arguments, keywords) as logger:
            return keep(logger, function(*arguments, **keywords))

    @wraps(function)
    async def awaited(*arguments: Any, **keywords: Any) -> Any:
        with begin(arguments, keywords) as logger:
            return keep(logger, await function(*arguments, **keywords))

    @wraps(function)
    def generated(*arguments: Any, **keywords: Any) -> Any:
        # Who has taken enough closes it: that is no failure.
        with begin(arguments, keywords) as logger, contextlib.suppress(GeneratorExit):
            return keep(logger, (yield from function(*arguments, **keywords)))

    @wraps(function)
    async def async_generated(*arguments: Any, **keywords: Any) -> AsyncIterator[Any]:
        with begin(arguments, keywords), contextlib.suppress(StopAsyncIteration):
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
