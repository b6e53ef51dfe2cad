"""The one Jinja2 environment, and every escaping rule: shell, Markdown, terminal, file names.

Notes, names and parameters come from anywhere. Each place that text goes to has its own rule here, and templates name
the rule as a filter; a test reads the templates and refuses a value without one.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

_PACKAGE = Path(__file__).parent
_CONTROL_PICTURES = {code: chr(0x2400 + code) for code in range(32)} | {0x7F: "\u2421", ord("\n"): "\u21b5"}
# C1 controls, line separators, bidirectional overrides, zero-width marks and lone surrogates deceive the eye.
_DECEIVERS = re.compile("[\u0080-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_MARKDOWN_SPECIAL = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
_MARKDOWN_PLAIN = re.compile(r"[0-9A-Za-z .,:;/()'\"+=%-]*")
_HTML_ENTITY = re.compile(r"&(?=#?\w+;)")
_PLAIN_IN_DOUBLE_QUOTES = re.compile(r"[^\x00-\x1f\x7f\"$`\\!]*")
# Of three dots the middle one: Dagster takes no key with `...`.
_UNSAFE_IN_FILE_NAME = re.compile(rb"[^a-z0-9_.-]|(?<=\.)\.(?=\.)")
_LONGEST_FILE_NAME = 100
_PIECES_AT_ONCE = 1000
_COMPACT_JSON = json.JSONEncoder(separators=(",", ":"))


def templates_dir() -> Path:
    """The wheel carries the templates inside the package; a checkout has them beside it."""
    inside = _PACKAGE / "templates"
    return inside if inside.is_dir() else _PACKAGE.parent / "templates"


@cache
def environment() -> Environment:
    """The environment of every document: unknown names are errors, HTML is escaped, filters are the rules below."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    made = Environment(
        loader=FileSystemLoader(templates_dir()),
        undefined=StrictUndefined,
        autoescape=select_autoescape(enabled_extensions=("html", "html.j2")),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.concat = _joined  # type: ignore[method-assign]
    made.filters.update(
        md=markdown_text,
        md_code=markdown_code,
        json_comment=json_comment,
        sh=shell_word,
        sh_words=shell_words,
        sh_flag=shell_flag_value,
        sh_flags=shell_flag_values,
        sh_comment=shell_comment,
        number=number,
        percent=percent,
        seconds=seconds,
    )
    return made


def render(template: str, **values: Any) -> str:
    """Fill `templates/<template>`."""
    return environment().get_template(template).render(**values)


def _joined(pieces: Iterable[str]) -> str:
    """A long document has half a million pieces, which take three times its own memory where all are kept at once."""
    left = iter(pieces)
    return "".join("".join(some) for some in iter(lambda: list(islice(left, _PIECES_AT_ONCE)), []))


def visible(text: str) -> str:
    """One line in which every character is seen: controls become control pictures, deceivers their code points.

    For terminals, comments and the base of every other one-line place.
    """
    if text.isascii() and text.isprintable():
        return text
    return _DECEIVERS.sub(lambda match: f"<U+{ord(match[0]):04X}>", text.translate(_CONTROL_PICTURES))


def markdown_text(value: object) -> str:
    """Inline Markdown that shows `value` letter for letter, in a table cell too. Underscores inside words stay."""
    text = str(value)
    if _MARKDOWN_PLAIN.fullmatch(text):  # most of a report: seven times faster
        return text
    text = _MARKDOWN_SPECIAL.sub(r"\\\g<0>", _HTML_ENTITY.sub("&amp;", visible(text)))
    return text.replace("<", "&lt;").replace(">", "&gt;")


def markdown_code(text: str) -> str:
    """An inline code span that shows `text`, whatever backticks it holds."""
    text = visible(text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}" if longest else f"`{text or ' '}`"


def markdown_block(text: str, language: str) -> str:
    """A code block that no backticks in `text` can end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def json_comment(form: Mapping[str, Any]) -> str:
    """JSON for inside an HTML comment, which no text in it can end: outside strings JSON has neither `--` nor `<`."""
    text = _COMPACT_JSON.encode(form)
    return text.replace("--", "\\u002d\\u002d").replace("<", "\\u003c").replace(">", "\\u003e")


@lru_cache(maxsize=10_000)  # scripts repeat their words
def shell_word(text: str) -> str:
    """One bash word that is `text` byte for byte."""
    return shlex.quote(text)


def shell_flag_value(value: object) -> str:
    """A flag's value as a bash word: in double quotes, as people write it, where that is as safe as single ones."""
    text = str(value)
    return f'"{text}"' if _PLAIN_IN_DOUBLE_QUOTES.fullmatch(text) else shlex.quote(text)


def shell_words(texts: Iterable[str]) -> str:
    """Each text as a bash word: in a long script one call for them all is a third faster than one for each."""
    return " ".join(map(shell_word, texts))


def shell_flag_values(texts: Iterable[str]) -> str:
    """Each text as a flag's value."""
    return " ".join(map(shell_flag_value, texts))


def shell_comment(value: object) -> str:
    """Text after `#` in a script: one line, nothing hidden. It also fits inside single quotes once `shell_word`ed."""
    return visible(str(value))


def file_name(text: str) -> str:
    """A name for files and partition keys that differs whenever `text` does, on any file system.

    Lower-case letters, digits, `_`, `-` and `.` stay; other bytes become `~` and two hexadecimal digits. Long names
    end in a hash of the whole.
    """
    raw = text.encode("utf-8", "surrogatepass")
    safe = _UNSAFE_IN_FILE_NAME.sub(lambda match: b"~%02x" % match[0][0], raw).decode()
    kept = safe.rstrip(".")  # Windows drops dots at the end
    safe = kept + "~2e" * (len(safe) - len(kept))
    if safe.startswith(".") or not safe or _is_reserved(safe):
        safe = f"~{safe}"
    if len(safe) <= _LONGEST_FILE_NAME:
        return safe
    digest = hashlib.sha256(raw).hexdigest()[:16]
    return f"{safe[: _LONGEST_FILE_NAME - 18]}~~{digest}"


def _is_reserved(name: str) -> bool:
    stem = name.split(".")[0]
    return stem in {"con", "prn", "aux", "nul"} or re.fullmatch(r"(com|lpt)\d", stem) is not None


def number(value: float) -> str:
    """15,420"""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def percent(part: int, whole: int) -> str:
    """91.7%; 0.0% of nothing."""
    return f"{100 * part / whole if whole else 0:.1f}%"


def seconds(value: float | None) -> str:
    """45.7s; milliseconds below one second; `unknown` where nobody measured."""
    if value is None:
        return "unknown"
    return f"{value:,.1f}s" if value >= 1 else f"{value:.3f}s"
