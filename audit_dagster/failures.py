"""What an error says in one line, and which failures have one cause: that reports and alerts agree on."""

from __future__ import annotations

import hashlib
import re

NO_ERROR_TEXT = "no error text"
_LONGEST_ERROR = 2000
# In this order: a quoted path is one thing, and a path may hold numbers.
_VARYING = (
    (re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|`[^`\n]*`"), "<quoted>"),
    (re.compile(r"(?:\b[A-Za-z][A-Za-z0-9+.-]*://|\b[A-Za-z]:\\|(?<![\w<])[~.]{0,2}/)[^\s,;:)\]}]+"), "<path>"),
    (re.compile(r"\b0x[0-9a-f]+\b|\b(?=[0-9a-f-]*[0-9])[0-9a-f]{4,}(?:-[0-9a-f]+)*\b", re.IGNORECASE), "<n>"),
    (re.compile(r"[0-9]+(?:[.,:_-][0-9]+)*"), "<n>"),
    (re.compile(r"\s+"), " "),
)


def cause(error_message: str | None) -> str | None:
    """The line of an error that says what was wrong: the last one where it is a Python traceback, else all of it."""
    if error_message is None or "Traceback (most recent call last):" not in error_message:
        return error_message
    return error_message.strip().splitlines()[-1]


def wording(error: str | None) -> str:
    """The error's first 2,000 letters without quoted texts, paths, addresses, hexadecimal ids and numbers."""
    text = (error or "")[:_LONGEST_ERROR]
    for pattern, placeholder in _VARYING:
        text = pattern.sub(placeholder, text)
    return text.strip()


def fingerprint(kind: str, tool_name: str, operation: str, error: str | None = None) -> str:
    """32 hexadecimal digits, the same for whatever has one cause."""
    parts = (kind, tool_name, operation, wording(error))
    # With the length of each, so that no two lists of parts run together to one text.
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
