"""Secrets are replaced before anything is written anywhere, by `${SECRET:NAME}`: a script can ask for that variable.

Found by key (`db_password`, `--api-key X`, `TOKEN=x`), by shape (known tokens, private keys, URLs and connection
strings with credentials), and, once found, by value: wherever the same text turns up again in the operation.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

_WORDS = r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+"
_SECRET_WORDS = {"password", "passwd", "pwd", "passphrase", "secret", "token", "credential", "credentials"}
_SECRET_WORDS |= {"authorization", "apikey", "cookie", "dsn"}
_BEFORE_KEY = {"api", "access", "private", "secret", "auth", "account", "encryption", "signing"}
_SECRET_PARTS = ("password", "passwd", "secret", "apikey", "credential", "accesstoken", "authtoken")
_NAME_HINTS = ("pass", "pwd", "secret", "token", "credential", "authorization", "key", "cookie", "dsn")
# The last word of a name that speaks about a secret and is none.
_ABOUT_SECRETS = {"count", "limit", "length", "size", "name", "id", "type", "ttl", "expires", "expiry"}
_ABOUT_SECRETS |= {"url", "uri", "host", "port", "user", "username", "file", "path", "dir", "directory", "folder"}
_WORKING_DIRECTORY = ("PWD", "OLDPWD")
_SHORTEST_KNOWN = 6  # a shorter value would be found where it is no secret
_PLACEHOLDER = r"(\$\{SECRET:[A-Z0-9_]+\})"

# The name of a secret, what a text has in lower case where it may be there, and its shape.
_SHAPES = (
    (
        "PRIVATE_KEY",
        ("private key-----",),
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    ),
    ("AWS_ACCESS_KEY", ("akia", "asia"), r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    ("GITHUB_TOKEN", ("gh", "github_pat_"), r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})"),
    ("GITLAB_TOKEN", ("gl",), r"\bgl[a-z]{2,5}-[A-Za-z0-9_-]{20,}"),
    (
        "SLACK_TOKEN",
        ("xox", "hooks.slack.com"),
        r"\bxox[a-z]-[A-Za-z0-9-]{10,}|https://hooks\.slack\.com/services/\S+",
    ),
    ("GOOGLE_API_KEY", ("aiza",), r"\bAIza[0-9A-Za-z_-]{35}"),
    ("PYPI_TOKEN", ("pypi-",), r"\bpypi-[A-Za-z0-9_-]{40,}"),
    ("HUGGINGFACE_TOKEN", ("hf_",), r"\bhf_[A-Za-z0-9]{30,}"),
    ("API_KEY", ("sk-", "sk_", "rk_"), r"\bsk-[A-Za-z0-9_-]{20,}|\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    ("JWT", ("eyj",), r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    ("URL_PASSWORD", ("://",), r"(?<=://)(?P<before>[^\s/@:'\"]*:)(?P<value>[^\s/@'\"]+)(?=@)"),
    ("URL_TOKEN", ("https://",), r"(?<=https://)(?P<value>[^\s/@:'\"]{20,})(?=@)"),
    (
        "AUTHORIZATION",
        ("bearer", "basic"),
        r"(?i:(?P<before>\b(?:bearer|basic) +)(?P<value>[A-Za-z0-9+/_.~=-]{8,}))",
    ),
)
_ASSIGNED_HINTS = ("passw", "pwd", "passphrase", "secret", "token", "credential", "key")
_ASSIGNED = (
    # Bounded, and from a word's beginning only: a long word without an end must not cost the square of its length.
    r"(?<![\w.-])(?P<before>(?P<key>[\w.-]{0,64}?(?i:passw|pwd|passphrase|secret|token|credential|[a-z]+[_-]?key)"
    r"[\w.-]{0,64})[\"']?\s*[=:]\s*)(?:(?P<quote>[\"'])(?P<quoted>[^\"'\n]+)|(?P<plain>[^\s\"',;&][^\s,;&]*))"
)
# "pwd: cannot …", "unexpected token: end": a program speaks, and names no value.
_PROSE = r"(?i:pwd|token): [a-z']{3,} [a-z']+"


class Redactor:
    """Replaces the secrets of one operation. It remembers what it found: look at keys and argv before texts."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """Values of the environment whose names say that they are secret are known from the start."""
        self._names: dict[str, str] = {}
        for name, value in (os.environ if environment is None else environment).items():
            if is_secret_name(name) and name not in _WORKING_DIRECTORY:
                self._remember(value, name)

    def value(self, value: Any, key: str = "") -> Any:
        """A JSON value without its secrets. `key` is the name that it has where it came from."""
        if isinstance(value, list):
            return [self.value(item, key) for item in value]
        if isinstance(value, dict):
            return {
                self.text(name): self.value(item, key if is_secret_name(key) else name) for name, item in value.items()
            }
        if value is None or isinstance(value, bool) or value == "":
            return value
        if is_secret_name(key):
            return self._hidden(str(value), key)
        return self.text(value) if isinstance(value, str) else value

    def argv(self, words: Iterable[str]) -> list[str]:
        """A command without its secrets: `--password X`, `--password=X`, `PASSWORD=X`, and every shape."""
        made: list[str] = []
        flag = ""
        for word in words:
            name, equals, value = word.partition("=")
            if flag and not word.startswith("--"):
                made.append(self._hidden(word, flag))
            elif equals and is_secret_name(name):
                made.append(f"{name}={self._hidden(value, name)}")
            else:
                made.append(word)
            follows = word.startswith("-") and not equals and is_secret_name(word)
            flag = word if follows else ""
        return [self.text(word) for word in made]

    def text(self, text: str) -> str:
        """Any text without what looks like a secret, or was found to be one elsewhere."""
        lowered = text.lower()  # an expression is made and run only where something of its kind may be: it costs time
        for name, hints, shape in _SHAPES:
            if any(hint in lowered for hint in hints):
                text = _outside(shape, lambda match, name=name: self._shaped(match, name), text)  # type: ignore[misc]
        if any(hint in lowered for hint in _ASSIGNED_HINTS):
            text = _outside(_ASSIGNED, self._assigned, text)
        found = [value for value in self._names if value in text]
        if found:
            known = "|".join(map(re.escape, sorted(found, key=len, reverse=True)))
            text = _outside(known, lambda match: _placeholder(self._names[match[0]]), text)
        return text

    def hide(self, value: Any, name: str) -> str:
        """A value that is a secret whatever it is called."""
        return self._hidden(value if isinstance(value, str) else str(value), name)

    def known(self) -> frozenset[str]:
        """The secrets found so far."""
        return frozenset(self._names)

    def _shaped(self, match: re.Match[str], name: str) -> str:
        groups = match.groupdict()
        return (groups.get("before") or "") + self._hidden(groups.get("value") or match[0], name)

    def _assigned(self, match: re.Match[str]) -> str:
        if not is_secret_name(match["key"]) or _compiled(_PROSE).match(match.string, match.start()):
            return match[0]
        return match["before"] + (match["quote"] or "") + self._hidden(match["quoted"] or match["plain"], match["key"])

    def _hidden(self, value: str, name: str) -> str:
        if not value or _compiled(_PLACEHOLDER).fullmatch(value):
            return value
        self._remember(value, name)
        return _placeholder(self._names.get(value, name))

    def _remember(self, value: str, name: str) -> None:
        if len(value) >= _SHORTEST_KNOWN and value not in self._names:
            self._names[value] = name


def is_secret_name(name: str) -> bool:
    """Whether a value of this name is a secret: `db_password`, `apiKey`, `--token`, `X-Auth-Token`; not `tokens`."""
    lowered = name.lower()
    if not any(hint in lowered for hint in _NAME_HINTS):
        return False
    words = [word.lower() for word in _compiled(_WORDS).findall(name)]
    if not words or words[-1] in _ABOUT_SECRETS:
        return False
    if not _SECRET_WORDS.isdisjoint(words):
        return True
    if any(first in _BEFORE_KEY and second == "key" for first, second in pairwise(words)):
        return True
    joined = "".join(words)
    return any(part in joined for part in _SECRET_PARTS)


def _outside(pattern: str, replace: Callable[[re.Match[str]], str], text: str) -> str:
    """Replace in what is no placeholder yet."""
    if "${SECRET:" not in text:
        return _compiled(pattern).sub(replace, text)
    parts = _compiled(_PLACEHOLDER).split(text)
    return "".join(part if number % 2 else _compiled(pattern).sub(replace, part) for number, part in enumerate(parts))


def _placeholder(name: str) -> str:
    return "${SECRET:" + ("_".join(_compiled(_WORDS).findall(name)).upper() or "VALUE") + "}"


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.DOTALL)  # remembered by `re`
