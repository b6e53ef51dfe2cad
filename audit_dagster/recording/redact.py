"""Secrets are replaced before anything is written anywhere, by `${SECRET:NAME}`: a script can ask for that variable.

Found by key (`db_password`, `--api-key X`, `TOKEN=x`), by shape (see `secret_shapes`), and, once found, by value:
wherever the same text turns up again in the operation.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from audit_dagster.recording.secret_shapes import (
    ALL_HINTS,
    ASSIGNMENTS,
    BEHIND,
    COMMAND,
    COMMAND_HINTS,
    FLAGS,
    FLAGS_OF_THE_REST,
    NEXT_LINE,
    PROGRAMS,
    SHAPES,
    SHELL_WORD,
    is_login,
    is_variable,
    values_below,
    values_of,
)

_WORDS = r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+"
_SECRET_WORDS = {"password", "passwd", "pwd", "passphrase", "passcode", "secret", "token", "credential", "credentials"}
_SECRET_WORDS |= {"authorization", "apikey", "cookie", "dsn"}
_BEFORE_KEY = {"api", "access", "private", "secret", "auth", "account", "encryption", "signing", "app", "application"}
_BEFORE_KEY |= {"consumer", "master", "shared", "subscription", "session", "license", "admin", "bot"}
_BEFORE_PLURAL = {"api", "access", "auth", "private", "secret"}  # tokens alone are counted
# A low pass is a filter, a first pass a round, and a pw the width of a pulse.
_BEFORE_PASS = {"db", "database", "user", "smtp", "ftp", "sftp", "imap", "mail", "email", "mysql", "pg", "postgres"}
_BEFORE_PASS |= {"redis", "mongo", "rabbitmq", "proxy", "http", "root", "admin", "login", "ssh", "sudo", "my", "vault"}
_SECRET_PARTS = ("password", "passwd", "secret", "apikey", "credential", "accesstoken", "authtoken", "dbpass")
_NAME_HINTS = ("pass", "pw", "secret", "token", "credential", "auth", "key", "cookie", "dsn")
# The last word of a name that speaks about a secret and is none.
_ABOUT_SECRETS = {"count", "limit", "length", "size", "name", "id", "type", "ttl", "expires", "expiry"}
_ABOUT_SECRETS |= {"url", "uri", "host", "port", "user", "username", "file", "path", "dir", "directory", "folder"}
_WORKING_DIRECTORY = ("PWD", "OLDPWD")
_SHORTEST_KNOWN = 6  # a shorter value would be found where it is no secret
_SHORTEST_WORD = 3  # but as a whole word of the same command
_NAME = r"[\w.-]+"
_PLACEHOLDER = r"(\$\{SECRET:[A-Z0-9_]+\})"
_KEY_FILES = (
    r"\.env(?:\..+)?|.*\.env|\.envrc|\.Renviron|[._]netrc|\.pgpass|\.my\.cnf|\.npmrc|\.pypirc|\.htpasswd|\.s3cfg"
    r"|id_(?:rsa|dsa|ecdsa|ed25519).*|credentials(?:\..+)?|kubeconfig(?:\..+)?|cookies\.(?:txt|sqlite)"
    r"|.*\.(?:pem|key|ppk|p12|pfx|jks|kdbx|keystore|kubeconfig)"
    r"|.*(?:passwords?|passwd|passphrase|secrets?|credentials?|client_secret.*|service[_-]account.*|token"
    r"|(?:api|access|auth)[_-]?(?:tokens|keys?))(?:\.(?:txt|json|ya?ml|toml|ini|cfg|conf|properties))?"
)


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
        parameters = shown.get("parameters")
        if isinstance(parameters, dict) and self._short:  # `curl --user=a:X` has it as a parameter, too
            words = {name: value for name, value in parameters.items() if isinstance(value, str)}
            parameters |= {name: _placeholder(self._short[word]) for name, word in words.items() if word in self._short}
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
        flag = ""
        for word in self._of_programs(words):
            name, equals, value = word.partition("=")
            if flag and not word.startswith("--"):
                made.append(self._hidden(word, flag))
            elif equals and self._is_secret(name) and _compiled(_NAME).fullmatch(name):
                made.append(f"{name}={self._hidden(value, name)}")
            else:
                made.append(word)
            is_flag = word.startswith("-") and _compiled(_NAME).fullmatch(word) and self._is_secret(word)
            flag = word if is_flag else ""
        return [_placeholder(self._short[word]) if word in self._short else self.text(word) for word in made]

    def _of_programs(self, words: Iterable[str]) -> Iterator[str]:
        """Without what is secret only since a known program takes it so, wherever that stands: `sudo mysql -pX`."""
        program, before = "", ""
        for word in words:
            flags = FLAGS.get(program, ())
            if _takes_next(before, flags) and not word.startswith("--" if before.startswith("-") else "-"):
                yield self._part(program, word)
            else:
                yield self._inside(program, word)
            name = word.rpartition("/")[2]
            if f"{program} {word}" in PROGRAMS:
                program = f"{program} {word}"
            elif name in PROGRAMS and not (program and before.startswith("-")) and "://" not in word:
                program = name
            if not (before == "login" and word.startswith("-")):
                before = word

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
        if any(map(lowered.__contains__, COMMAND_HINTS)):
            text = self._without_commands(text)
        for words, assignment in ASSIGNMENTS:
            if any(map(lowered.__contains__, words)):
                text = self._without_values(text, assignment, lambda match: values_of(match, is_code=is_code))
        if "\n" in text and not is_code:
            text = self._without_values(text, NEXT_LINE, values_below)
        return text

    def known(self) -> frozenset[str]:
        """The secrets found so far."""
        return frozenset(self._names)

    def _is_secret(self, name: str) -> bool:
        return is_secret_name(name) or (bool(self._secret_names) and _plain_name(name) in self._secret_names)

    def _inside(self, program: str, word: str) -> str:
        """`mysql -pX` and `curl --user=ada:X` without X."""
        name, equals, value = word.partition("=")
        if equals and name in FLAGS.get(program, ()):
            return f"{name}={self._part(program, value)}"
        letters = [flag for flag in FLAGS.get(program, ()) if len(flag) == len("-u")]
        flags = (*letters, *FLAGS_OF_THE_REST.get(program, ()))
        flag = next((flag for flag in flags if word.startswith(flag) and word != flag), None)
        return flag + self._part(program, word.removeprefix(flag)) if flag else word

    def _part(self, program: str, word: str) -> str:
        """A secret's word without the secret; with the quotes that it may have in a text."""
        quote = word[0] if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'" else ""
        value = word[len(quote) : len(word) - len(quote)]
        before, mark, behind = value.partition(BEHIND.get(program, "")) if program in BEHIND else ("", "", value)
        if is_variable(value) or (program in BEHIND and not mark):
            return word
        return quote + before + mark + self._hidden(behind, "password") + quote

    def _without_commands(self, text: str) -> str:
        return _compiled(COMMAND).sub(self._command, text)

    def _command(self, match: re.Match[str]) -> str:
        parts = _compiled(SHELL_WORD).split(match["rest"])
        program = match["program"].split()
        words = [_bare(word) for word in parts[1::2]]
        shown = list(self._of_programs([*program, *words]))[len(program) :]
        shown = [self._without_commands(word) if " " in word else word for word in shown]  # `ssh host "mysql -pX"`
        parts[1::2] = [part.replace(word, new) for part, word, new in zip(parts[1::2], words, shown, strict=True)]
        return match[0].removesuffix(match["rest"]) + "".join(parts)

    def _shaped(self, match: re.Match[str], name: str) -> str:
        groups = match.groupdict()
        value = groups.get("value") or match[0]
        if name == "LOGIN" and not is_login(value):
            return match[0]
        return (groups.get("before") or "") + self._hidden(value, name)

    def _without_values(
        self, text: str, assignment: str, values: Callable[[re.Match[str]], Iterable[tuple[int, int]]]
    ) -> str:
        shown: list[str] = []
        at = 0
        for match in _compiled(assignment).finditer(text):
            key = _whole_key(match)
            if match.start() < at or not self._is_secret(key):
                continue
            for start, end in values(match):
                shown += (text[at:start], self._hidden(text[start:end], key))
                self._remember(text[start:end].rstrip(")]}>.:"), key)  # `connect(password=x)`
                at = end
        return "".join(shown) + text[at:]

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
    if not _SECRET_WORDS.isdisjoint(words) or words == ["auth"] or (words == ["pass"] and name.startswith("--")):
        return True
    for first, second in pairwise(words):
        if (second == "key" and first in _BEFORE_KEY) or (second in {"pass", "pw"} and first in _BEFORE_PASS):
            return True
        if second in {"keys", "tokens"} and first in _BEFORE_PLURAL:
            return True
    joined = "".join(words)
    return any(part in joined for part in _SECRET_PARTS)


def is_secret_file(name: str) -> bool:
    """Whether a file of this name holds secrets: `.env`, `id_rsa`, `server.pem`."""
    return re.fullmatch(_KEY_FILES, name, re.IGNORECASE) is not None


def _plain_name(name: str) -> str:
    return name.lstrip("-").replace("-", "_").lower()


def _takes_next(word: str, flags: tuple[str, ...]) -> bool:
    """Whether a secret comes behind that word: `-u`, and `-su`, which is `-s -u`."""
    if not flags or word in flags:
        return word in flags
    is_letters = word.startswith("-") and word[1:].isalpha() and f"-{word[1]}" not in flags
    return is_letters and f"-{word[-1]}" in flags


def _bare(word: str) -> str:
    """A word of a text without the quotes and brackets around it."""
    word = word.strip("()[],")
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'" else word


def _whole_key(match: re.Match[str]) -> str:
    """With what stands before the word that tells."""
    start = match.start("key")
    before = _compiled(r"[\w.-]*\Z").search(match.string, max(0, start - 64), start)
    return (before[0] if before else "") + match["key"]


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
