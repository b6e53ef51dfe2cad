"""What running an operation again would change beyond its working tree, as far as its record tells."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from functools import lru_cache

from audit_dagster.entry import LogEntry
from audit_dagster.reproduction.ground import File, before_and_value, below, from_root
from audit_dagster.reproduction.words import without_interpreter

# By a word of tool or operation, and, for words that mean harmless things elsewhere, with a word for a device.
_DESTRUCTIVE = {"upload", "delete", "remove", "push", "deploy", "publish", "flash", "erase", "send", "purge", "drop"}
_ON_DEVICES = {"update", "configure", "reset", "write", "set"}
_DEVICES = {"device", "devices", "firmware", "node", "nodes", "gateway", "gateways"}
_READING_GIT = {"status", "log", "diff", "show", "rev-parse", "ls-files", "describe", "blame", "grep", "rev-list"}
_READING_GIT |= {"cat-file", "shortlog", "version", "help"}
_GIT_OPTIONS_WITH_VALUE = {"-C", "-c", "--git-dir", "--work-tree", "--namespace", "--config-env"}
_ELSEWHERE = {"rclone", "scp", "sftp", "ssh", "particle", "esptool", "esptool.py", "avrdude", "dfu-util", "aws"}
_ELSEWHERE |= {"gsutil", "gcloud", "az", "kubectl", "twine"}
_ON_FILES = {"rm", "rmdir", "mv", "dd", "shred", "unlink", "truncate"}
_REMOTE_PATH = re.compile(r"[^/:-][^/:]*:|rsync://")


def beyond_the_tree(entry: LogEntry, words: list[str], outputs: list[File], root: str | None) -> str | None:
    """Why the script asks before it runs `words`: the end of a sentence that begins with the operation's name.

    None where nothing says that it changes more than the working tree that stands for `root`.
    """
    if _is_named_so(entry.tool_name, entry.operation):
        return "changes more than files here"
    if any(file.path.startswith("/") for file in outputs):
        return "writes outside the working tree"
    words = without_interpreter(words)
    if not words:
        return None
    program, rest = words[0].rpartition("/")[2], words[1:]
    if program == "git" and next(_subcommand(rest), "help") not in _READING_GIT:
        return "changes the repository"
    if program in _ELSEWHERE or _is_sent(program, rest):
        return f"may change what is elsewhere with {program}"
    if program in _ON_FILES and any(_is_outside(path, entry, root) for path in _paths(program, rest)):
        return "changes files outside the working tree"
    if root and any(_names_root(word, root) for word in words):
        return "names your own working tree"
    return None


@lru_cache(maxsize=1000)
def _is_named_so(tool_name: str, operation: str) -> bool:
    said = set(re.findall(r"[a-z]+", f"{tool_name} {operation}".lower()))
    return bool(said & _DESTRUCTIVE) or bool(said & _ON_DEVICES and said & _DEVICES)


def _subcommand(words: list[str]) -> Iterator[str]:
    """The words that are none of git's own options, the subcommand first."""
    left = iter(words)
    for word in left:
        if word in _GIT_OPTIONS_WITH_VALUE:
            next(left, None)
        elif not word.startswith("-"):
            yield word


def _is_sent(program: str, words: list[str]) -> bool:
    if program == "rsync":
        return any(_REMOTE_PATH.match(word) for word in words)
    return program == "docker" and "push" in words


def _paths(program: str, words: list[str]) -> Iterator[str]:
    """The words that may be paths which the program changes; dd changes what `of=` names."""
    for word in words:
        before, value = before_and_value(word)
        if program == "dd":
            if before == "of=":
                yield value
        else:
            yield value if before.startswith("-") else word


def _names_root(word: str, root: str) -> bool:
    """Whether the recorded root stands in it where no script puts its own working tree: amid other text."""
    if root not in word:  # as in most
        return False
    value = before_and_value(word)[1]
    if below(value, root) != value or value == root:
        value = value[len(root) :]
    elif value.startswith(f"{root}/"):
        value = posixpath.normpath(value)  # up from there, and perhaps back
    return re.search(rf"{re.escape(root)}(?![\w.-])", value) is not None


def _is_outside(path: str, entry: LogEntry, root: str | None) -> bool:
    if path.startswith("/"):
        return path != root and below(path, root) == path
    return (from_root(path, entry.working_directory, root) or "").startswith("../")
