"""What is told of an exception: its type and message, and a traceback of bounded length."""

from __future__ import annotations

from audit_dagster.recording.storable import type_name

_MOST_FRAMES = 20


def is_clean_exit(error: BaseException) -> bool:
    """Whether it ends the code as having done its work: exit code 0, or a generator of which nobody wants more."""
    try:
        return isinstance(error, GeneratorExit) or (isinstance(error, SystemExit) and error.code in (None, 0))
    except Exception:  # a subclass may do anything
        return False


def error_text(error: BaseException) -> str:
    """The error's type and message in one text."""
    kind = type_name(type(error))
    try:
        text = str.__str__(str(error))  # of a subclass, what it is rather than what it says
    except KeyboardInterrupt:
        raise
    except BaseException:  # an exception's own __str__ may fail, or mean to leave
        text = "<no text>"
    return f"{kind}: {text}" if text else kind


def traceback_text(error: BaseException) -> str:
    """The traceback as Python shows it, with the innermost frames of each exception."""
    from traceback import format_exception

    try:
        return "".join(format_exception(type(error), error, error.__traceback__, limit=-_MOST_FRAMES))
    except Exception as failure:  # it looks at the exception's own attributes
        return f"<no traceback: {type_name(type(failure))}>"
