"""Which tool a command runs: its name, and the file with its code, behind `nice` and the like and its interpreter."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path, PurePath
from typing import NamedTuple


class _Options(NamedTuple):
    """What is to be known of a program's options to find the first word behind them."""

    taking: frozenset[str] = frozenset()  # they have an argument
    ending: frozenset[str] = frozenset()  # no script comes after them
    operands: int = 0  # of a wrapper, before the command


def _options(taking: str = "", ending: str = "", operands: int = 0) -> _Options:
    return _Options(frozenset(taking.split()), frozenset(ending.split()), operands)


_WRAPPERS = {
    "env": _options("-u -C -S --unset --chdir --split-string"),
    "ionice": _options("-c -n --class --classdata"),
    "nice": _options("-n --adjustment"),
    "nohup": _options(),
    "setsid": _options(),
    "stdbuf": _options("-i -o -e --input --output --error"),
    "taskset": _options(operands=1),
    "time": _options("-f -o --format --output"),
    "timeout": _options("-k -s --kill-after --signal", operands=1),
}
_MODULE = "-m"
_PYTHON = _options("-W -X --check-hash-based-pycs", f"- -c {_MODULE}")
_SHELL = _options("-o -O --rcfile --init-file", "- -c -s")
_INTERPRETERS = {
    **dict.fromkeys(("ipython", "pypy", "python"), _PYTHON),
    **dict.fromkeys(("bash", "dash", "ksh", "sh", "zsh"), _SHELL),
    **dict.fromkeys(("node", "nodejs"), _options("-r -C --require --import", "- -e -p --eval --print")),
    "Rscript": _options("", "- -e"),
    "julia": _options("-C -J -L -p -t --procs --threads --load --sysimage", "- -e -E --eval --print"),
    "perl": _options("-I -M -m", "- -e -E"),
    "ruby": _options("-C -E -I -r", "- -e"),
}
_VERSION = re.compile(r"-?\d[\d.]*t?$")


class _Program(NamedTuple):
    word: str
    is_interpreter: bool = False
    script: str | None = None
    module: str | None = None


def default_tool_name(argv: list[str]) -> str:
    """The program's name, or its script's or module's where the program is an interpreter."""
    program = _program(argv)
    return program.module or PurePath(program.script or "").stem or PurePath(program.word).name


def program_file(argv: list[str]) -> str | None:
    """The file that a command runs: an interpreter's script or module, None if it has none, else the program."""
    program = _program(argv)
    if program.module:
        return _module_file(program.module, program.word)
    return program.script if program.is_interpreter else _found(program.word)


def _program(argv: list[str]) -> _Program:
    words = _unwrapped(argv)
    options = _INTERPRETERS.get(_VERSION.sub("", PurePath(words[0]).name))
    if options is None:
        return _Program(words[0])
    ended_by, rest = _behind_options(words, options)
    first = rest[0] if rest else None
    if ended_by == _MODULE:
        return _Program(words[0], True, module=first)
    return _Program(words[0], True, script=None if ended_by else first)


def _unwrapped(words: list[str]) -> list[str]:
    """A command without `env X=1`, `timeout 5` and the like before it."""
    while (name := PurePath(words[0]).name) in _WRAPPERS:
        rest = _behind_options(words, _WRAPPERS[name])[1][_WRAPPERS[name].operands :]
        if name == "env":
            rest = list(dropwhile(lambda word: "=" in word, rest))
        if not rest:
            break
        words = rest
    return words


def _behind_options(words: list[str], options: _Options) -> tuple[str, list[str]]:
    """The option that ended them, empty if it was none, and the words that are left."""
    at = 1
    while at < len(words) and words[at].startswith(("-", "+")):
        word = words[at]
        at += 1
        if word == "--":
            break
        option, argument = _option(word, options.taking | options.ending)
        if option in options.ending:
            return option, [argument, *words[at:]] if argument else words[at:]
        if option in options.taking and not argument:
            at += 1
    return "", words[at:]


def _option(word: str, known: frozenset[str]) -> tuple[str, str]:
    """The known option in a word, and the argument within the word: `--name=x`, `-Wx`, `-euo` as `-o`."""
    if word.startswith("--"):
        name, _, argument = word.partition("=")
        return name, argument
    place = next((place for place, letter in enumerate(word) if place and f"-{letter}" in known), None)
    return (f"-{word[place]}", word[place + 1 :]) if place else (word, "")


def _module_file(module: str, python: str) -> str | None:
    relative = module.replace(".", os.sep)
    for folder in _module_folders(python):
        for name in (f"{relative}/__main__.py", f"{relative}.py"):
            file = os.path.join(folder, name)  # noqa: PTH118 - a hot path
            if os.path.isfile(file):  # noqa: PTH113 - it raises nothing
                return file
    return None


def _module_folders(python: str) -> Iterator[str]:
    """Where that Python looks for modules, as far as one sees without asking it."""
    yield ""
    yield from filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    with contextlib.suppress(OSError):
        for site in Path(_found(python) or "").parent.parent.glob("lib/python3*/*-packages"):
            yield str(site)
            for more in site.glob("*.pth"):  # editable projects
                yield from filter(os.path.isabs, more.read_text("utf-8", "replace").splitlines())


def _found(program: str) -> str | None:
    if os.sep in program:
        return program
    places = (os.path.join(folder, program) for folder in os.get_exec_path())  # noqa: PTH118 - a hot path
    return next((place for place in places if os.access(place, os.X_OK)), None)
