"""Every escaping rule: shell, Markdown, HTML, JSON in a comment, CSV, terminal, file names.

Notes, names and parameters come from anywhere. Each place that text goes to has its own rule here; templates name the
rule as a filter.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shlex
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from markupsafe import Markup

_CONTROL_PICTURES = {code: chr(0x2400 + code) for code in range(32)} | {0x7F: "\u2421", ord("\n"): "\u21b5"}
# C1 controls, line separators, bidirectional overrides, zero-width marks and lone surrogates deceive the eye.
_DECEIVERS = re.compile("[\u0080-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_MARKDOWN_SPECIAL = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
_MARKDOWN_PLAIN = re.compile(r"[0-9A-Za-z .,:;/()'\"+=%-]*")
_HTML_PLAIN = re.compile(r"[0-9A-Za-z .,:;/()+=%_-]*")
_HTML_ENTITY = re.compile(r"&(?=#?\w+;)")
_PLAIN_IN_DOUBLE_QUOTES = re.compile(r"[^\x00-\x1f\x7f\"$`\\!]*")
# Of three dots the middle one: Dagster takes no key with `...`.
_UNSAFE_IN_FILE_NAME = re.compile(rb"[^a-z0-9_.-]|(?<=\.)\.(?=\.)")
_STARTS_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_LONGEST_FILE_NAME = 100
_COMPACT_JSON = json.JSONEncoder(separators=(",", ":"))


def visible(text: str) -> str:
    """One line in which every character is seen: controls become control pictures, deceivers their code points.

    For terminals, comments and the base of every other one-line place.
    """
    if text.isprintable():
        return text
    return _DECEIVERS.sub(lambda match: f"<U+{ord(match[0]):04X}>", text.translate(_CONTROL_PICTURES))


def markdown_text(value: object) -> str:
    """Inline Markdown that shows `value` letter for letter, in a table cell too. Underscores inside words stay."""
    text = str(value)
    if _MARKDOWN_PLAIN.fullmatch(text):  # most of a report: seven times faster
        return text
    text = _MARKDOWN_SPECIAL.sub(r"\\\g<0>", _HTML_ENTITY.sub("&amp;", visible(text)))
    return text.replace("<", "&lt;").replace(">", "&gt;")


def markdown_facts(facts: Iterable[tuple[str, str]]) -> str:
    """Names and values as list items: in a long report one call for them all is faster than two for each."""
    return "\n".join([_markdown_fact(name, value) for name, value in facts])


@lru_cache(maxsize=10_000)  # as `_html_fact`
def _markdown_fact(name: str, value: str) -> str:
    return f"- **{markdown_text(name)}**: {markdown_text(value)}"


def markdown_code(text: str) -> str:
    """An inline code span that shows `text`, whatever backticks it holds."""
    text = visible(text)
    if "`" not in text:
        return f"`{text or ' '}`"
    fence = "`" * (max(map(len, re.findall("`+", text))) + 1)
    return f"{fence} {text} {fence}"


def markdown_block(text: str, language: str) -> str:
    """A code block that no backticks in `text` can end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


class Svg(str):
    """A chart for inside a page: `reports/charts.py` has escaped what is in it."""

    __slots__ = ()


def html_text(value: object) -> Markup:
    """Text of a page, or an attribute's value: one line in which every character is seen. A chart stays as it is."""
    return _markup()(value) if isinstance(value, Svg) else _html_markup(str(value))


@lru_cache(maxsize=10_000)  # a page says most of its names and ids more than once
def _html_markup(text: str) -> Markup:
    return _markup()(_html(text))


def html_block(text: str) -> Markup:
    """Lines for inside `<pre>`."""
    if not text.replace("\n", "").isprintable():
        text = "\n".join(map(visible, text.split("\n")))
    return _markup()(_without_markup(text))


def html_facts(facts: Iterable[tuple[str, str]]) -> Markup:
    """Names and values for inside `<dl>`: in a long page one call for them all is faster than two for each."""
    return _markup()("\n".join([_html_fact(name, value) for name, value in facts]))


@lru_cache(maxsize=10_000)  # most of a day's facts are those of other operations, too
def _html_fact(name: str, value: str) -> str:
    return f"<dt>{_html(name)}</dt><dd>{_html(value)}</dd>"


def _html(text: str) -> str:
    if text.isspace():  # or a link has no name
        return "\u2420" * len(text)
    return text if _HTML_PLAIN.fullmatch(text) else _without_markup(visible(text))


def _without_markup(text: str) -> str:
    """As markupsafe's escape, which makes an object of each text: a third of the time of a long page."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("'", "&#39;").replace('"', "&#34;")


@cache
def _markup() -> type[Markup]:
    from markupsafe import Markup

    return Markup


def html_href(address: str) -> Markup:
    """A relative address made of file names, which no text in it makes an absolute one, or a script."""
    from markupsafe import escape

    path, sign, fragment = address.partition("#")  # a second one would be wrong
    path, fragment = (quote(part, safe="/.~-_", errors="replace") for part in (path, fragment))
    return escape(path + sign + fragment)


def script_hash(script: str) -> str:
    """What a Content-Security-Policy calls a page's inline script: sha256-…"""
    return f"sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def ascii_json(form: Mapping[str, Any] | list[Any]) -> str:
    """JSON on one line, in ASCII, without spaces."""
    import msgspec

    with contextlib.suppress(UnicodeError):  # a lone surrogate
        text = msgspec.json.encode(form).decode()
        if text.isascii() and "\x7f" not in text:  # nine times faster
            return text
    return _COMPACT_JSON.encode(form)


def json_comment(form: Mapping[str, Any] | str) -> str:
    """JSON for inside an HTML comment, which no text in it can end: outside strings JSON has neither `--` nor `<`.

    A text is taken for JSON that is already written.
    """
    text = form if isinstance(form, str) else ascii_json(form)
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


def shell_line(words: Sequence[str]) -> str:
    """A command to read and to copy: a word that hides something is spelt out in bash's `$'…'`."""
    line = shell_words(words)
    if visible(line) == line:
        return line
    return " ".join(shell_word(word) if visible(word) == word else _spelt(word) for word in words)


def _spelt(word: str) -> str:
    spelt = "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in _escaped(word))
    return f"$'{spelt}'"


def _escaped(word: str) -> bytes:
    return word.replace("\\", "\\\\").replace("'", "\\'").encode("utf-8", "surrogatepass")


def shell_comment(value: object) -> str:
    """Text after `#` in a script: one line, nothing hidden. It also fits inside single quotes once `shell_word`ed."""
    return visible(str(value))


def csv_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: an apostrophe goes before what could begin one, but for numbers.

    Quotes, commas and line ends are the CSV writer's.
    """
    return f"'{text}" if _STARTS_FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


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
