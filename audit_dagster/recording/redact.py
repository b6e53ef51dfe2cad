"""Secrets are replaced before anything is written anywhere, by `${SECRET:NAME}`: a script can ask for that variable.

Found by key (`db_password`, `--api-key X`, `TOKEN=x`), by shape (see `secret_shapes`), and, once found, by value:
wherever the same text turns up again in the operation.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import PurePath
from typing import Any

from audit_dagster.recording.secret_shapes import ALL_HINTS, ASSIGNED, ASSIGNED_HINTS, SHAPES, is_expression, is_login

_WORDS = r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+"
_SECRET_WORDS = {"password", "passwd", "pwd", "passphrase", "passcode", "secret", "token", "credential", "credentials"}
_SECRET_WORDS |= {"authorization", "apikey", "cookie", "dsn"}
_BEFORE_KEY = {"api", "access", "private", "secret", "auth", "account", "encryption", "signing", "app", "application"}
_BEFORE_KEY |= {"consumer", "master", "shared", "subscription", "session", "license", "admin", "bot"}
# A low pass is a filter, and a first pass a round.
_BEFORE_PASS = {"db", "database", "user", "smtp", "ftp", "sftp", "imap", "mail", "email", "mysql", "pg", "postgres"}
_BEFORE_PASS |= {"redis", "mongo", "rabbitmq", "proxy", "http", "root", "admin", "login", "ssh", "sudo", "my"}
_SECRET_PARTS = ("password", "passwd", "secret", "apikey", "credential", "accesstoken", "authtoken", "dbpass")
_NAME_HINTS = ("pass", "pwd", "secret", "token", "credential", "authorization", "key", "cookie", "dsn")
# The last word of a name that speaks about a secret and is none.
_ABOUT_SECRETS = {"count", "limit", "length", "size", "name", "id", "type", "ttl", "expires", "expiry"}
_ABOUT_SECRETS |= {"url", "uri", "host", "port", "user", "username", "file", "path", "dir", "directory", "folder"}
_WORKING_DIRECTORY = ("PWD", "OLDPWD")
_SHORTEST_KNOWN = 6  # a shorter value would be found where it is no secret
_SHORTEST_WORD = 3  # but as a whole word of the same command
_NAME = r"[\w.-]+"
_PLACEHOLDER = r"(\$\{SECRET:[A-Z0-9_]+\})"
_KEY_FILES = (
    r"\.env(?:\..+)?|\.netrc|\.pgpass|\.npmrc|\.pypirc|\.htpasswd|id_(?:rsa|dsa|ecdsa|ed25519).*|credentials(?:\..+)?"
    r"|.*\.(?:pem|key|p12|pfx|jks|kdbx|keystore)"
)
# Flags of well-known programs whose names do not tell: a secret follows, or is the rest of the word.
_FLAGS = {"curl": ("-u", "--user", "-U", "--proxy-user"), "http": ("-a", "--auth"), "https": ("-a", "--auth")}
_FLAGS |= {"sshpass": ("-p",), "redis-cli": ("-a",)}
_FLAGS_OF_THE_REST = {"mysql": ("-p",), "mysqldump": ("-p",), "mariadb": ("-p",)}


class Redactor:
    """Replaces the secrets of one operation. It remembers what it found: look at keys and argv before texts."""

    def __init__(self, environment: Mapping[str, str] | None = None, names: Iterable[str] = ()) -> None:
        """Values of the environment whose names say that they are secret are known from the start.

        `names` are names of secrets whatever they say: the parameter `pin`, and with it the flag `--pin`.
        """
        self._names: dict[str, str] = {}
        self._short: dict[str, str] = {}
        self._secret_names = {_plain_name(name) for name in names}
        self.learn(os.environ if environment is None else environment)

    def learn(self, environment: Mapping[str, str]) -> None:
        """Know the secrets of an environment."""
        for name, value in environment.items():
            if is_secret_name(name) and name not in _WORKING_DIRECTORY:
                self._remember(value, name)
            elif "://" in value and "@" in value:
                self.text(value)

    def form(self, form: dict[str, Any]) -> dict[str, Any]:
        """A JSON object without its secrets: what only its end tells to be one may stand in a text before."""
        known = self.known()
        shown: dict[str, Any] = self.value(form)
        if self.known() != known:
            shown = self.value(shown)
        return shown

    def value(self, value: Any, key: str = "") -> Any:
        """A JSON value without its secrets. `key` is the name that it has where it came from."""
        if isinstance(value, list):
            return [self.value(item, key) for item in value]
        if isinstance(value, dict):
            is_secret = self._is_secret(key)
            return {self.text(name): self.value(item, key if is_secret else name) for name, item in value.items()}
        if value is None or isinstance(value, bool) or value == "":
            return value
        if self._is_secret(key):
            return self._hidden(str(value), key)
        if isinstance(value, str):
            return self.text(value)
        return _placeholder(self._names[str(value)]) if str(value) in self._names else value

    def argv(self, words: Iterable[str]) -> list[str]:
        """A command without its secrets: `--password X`, `--password=X`, `PASSWORD=X`, and every shape."""
        made: list[str] = []
        program, flag = "", ""
        for word in words:
            name, equals, value = word.partition("=")
            if flag and not word.startswith("--"):
                made.append(self._hidden(word, flag))
            elif equals and self._is_secret(name) and _compiled(_NAME).fullmatch(name):
                made.append(f"{name}={self._hidden(value, name)}")
            else:
                made.append(self._without_rest(program, word))
            follows = word.startswith("-") and not equals and (self._is_secret(word) or word in _FLAGS.get(program, ()))
            flag = ("password" if word in _FLAGS.get(program, ()) else word) if follows else ""
            program = program or PurePath(word).name
        return [_placeholder(self._short[word]) if word in self._short else self.text(word) for word in made]

    def text(self, text: str, *, is_code: bool = False) -> str:
        """Any text without what looks like a secret, or was found to be one elsewhere.

        In code only what stands in quotes is a value: `token = ask()` is none.
        """
        lowered = text.lower()  # an expression is made and run only where something of its kind may be: it costs time
        if any(map(lowered.__contains__, ALL_HINTS)):
            text = self._without_finds(text, lowered, is_code)
        found = [value for value in self._names if value in text]
        if found:
            known = "|".join(map(re.escape, sorted(found, key=len, reverse=True)))
            text = _outside(known, lambda match: _placeholder(self._names[match[0]]), text)
        return text

    def _without_finds(self, text: str, lowered: str, is_code: bool) -> str:
        for name, hints, shape in SHAPES:
            if any(map(lowered.__contains__, hints)):
                text = _outside(shape, lambda match, name=name: self._shaped(match, name), text)  # type: ignore[misc]
        if any(map(lowered.__contains__, ASSIGNED_HINTS)):
            text = _outside(ASSIGNED, lambda match: self._assigned(match, is_code), text)
        return text

    def known(self) -> frozenset[str]:
        """The secrets found so far."""
        return frozenset(self._names)

    def _is_secret(self, name: str) -> bool:
        return is_secret_name(name) or (bool(self._secret_names) and _plain_name(name) in self._secret_names)

    def _without_rest(self, program: str, word: str) -> str:
        """`mysql -pX` without X."""
        flags = _FLAGS.get(program, ()) + _FLAGS_OF_THE_REST.get(program, ())
        flag = next((flag for flag in flags if word.startswith(flag) and len(word) > len(flag)), None)
        if flag is None or flag.startswith("--"):
            return word
        return flag + self._hidden(word.removeprefix(flag), "password")

    def _shaped(self, match: re.Match[str], name: str) -> str:
        groups = match.groupdict()
        value = groups.get("value") or match[0]
        if name == "LOGIN" and not is_login(value):
            return match[0]
        return (groups.get("before") or "") + self._hidden(value, name)

    def _assigned(self, match: re.Match[str], is_code: bool) -> str:
        before = re.search(r"[\w.-]*\Z", match.string[max(0, match.start() - 64) : match.start()])
        key = (before[0] if before else "") + match["key"]
        plain = match["plain"]
        if not self._is_secret(key) or (plain and (is_code or is_expression(match, plain))):
            return match[0]
        value = match["quoted"] or plain
        if plain:  # `connect(password=x)`
            self._remember(plain.rstrip(")]}>.:"), key)
        return f"{match['before']}{match['quote'] or ''}{self._hidden(value, key)}"

    def _hidden(self, value: str, name: str) -> str:
        if not value or _compiled(_PLACEHOLDER).fullmatch(value):
            return value
        self._remember(value, name)
        if _SHORTEST_WORD <= len(value) < _SHORTEST_KNOWN:
            self._short.setdefault(value, name)
        return _placeholder(self._names.get(value, name))

    def _remember(self, value: str, name: str) -> None:
        if len(value) >= _SHORTEST_KNOWN and value not in self._names and not is_secret_name(value):
            # As it is written in JSON and in Python, too.
            for written in {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}:
                self._names.setdefault(written, name)


def is_secret_name(name: str) -> bool:
    """Whether a value of this name is a secret: `db_password`, `apiKey`, `--token`, `X-Auth-Token`; not `tokens`."""
    lowered = name.lower()
    if not any(hint in lowered for hint in _NAME_HINTS):
        return False
    words = [word.lower() for word in _compiled(_WORDS).findall(name)]
    if not words or words[-1] in _ABOUT_SECRETS:
        return False
    if not _SECRET_WORDS.isdisjoint(words) or (words == ["pass"] and name.startswith("--")):
        return True
    for first, second in pairwise(words):
        if (second == "key" and first in _BEFORE_KEY) or (second == "pass" and first in _BEFORE_PASS):
            return True
    joined = "".join(words)
    return any(part in joined for part in _SECRET_PARTS)


def is_secret_file(name: str) -> bool:
    """Whether a file of this name holds secrets: `.env`, `id_rsa`, `server.pem`."""
    return re.fullmatch(_KEY_FILES, name, re.IGNORECASE) is not None


def _plain_name(name: str) -> str:
    return name.lstrip("-").replace("-", "_").lower()


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
