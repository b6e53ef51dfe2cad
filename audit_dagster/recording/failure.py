"""What is told of an exception: its type and message, and a traceback of bounded length."""

from __future__ import annotations

_MOST_FRAMES = 20


def is_clean_exit(error: BaseException) -> bool:
    """Whether it ends the code as having done its work: exit code 0, or a generator of which nobody wants more."""
    return isinstance(error, GeneratorExit) or (isinstance(error, SystemExit) and error.code in (None, 0))


def error_text(error: BaseException) -> str:
    """The error's type and message in one text."""
    kind = type(error).__name__
    try:
        text = str.__str__(str(error))  # of a subclass, what it is rather than what it says
    except Exception:  # an exception's own __str__ may fail
        text = "<no text>"
    return f"{kind}: {text}" if text else kind


def traceback_text(error: BaseException) -> str:
    """The traceback as Python shows it, with the innermost frames of each exception."""
    from traceback import format_exception

    try:
        return "".join(format_exception(type(error), error, error.__traceback__, limit=-_MOST_FRAMES))
    except Exception as failure:  # it looks at the exception's own attributes
        return f"<no traceback: {type(failure).__name__}>"
