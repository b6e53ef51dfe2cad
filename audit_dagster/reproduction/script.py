"""A plan as a bash script that a colleague can read, trust and run.

Pure: plan in, text out. Everything that came from a record reaches the text through a filter of `render`.
"""

from __future__ import annotations

import base64
import hashlib
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, tzinfo
from itertools import pairwise
from typing import NamedTuple

from audit_dagster.entry import LogEntry
from audit_dagster.escaping import shell_word, visible
from audit_dagster.render import render
from audit_dagster.reproduction.ground import Patch, before_and_value, below, from_root, patched_paths, repository_root
from audit_dagster.reproduction.plan import Plan, ScriptConfig, Step
from audit_dagster.reproduction.words import SECRET, reproduction_note

_TEMPLATE = "reproduction_script.sh.j2"
_BASE64_LINE = 76
_MOST_NAMED = 5
_LONGEST_SHOWN = 80
# What shellcheck says about words that are meant exactly as they stand, by what makes it say so.
_RESERVED = {"then", "elif", "else", "fi", "do", "done", "esac"}
_EXACT_WORDS = (
    ("SC1010", re.compile(f"^({'|'.join(sorted(_RESERVED))})$")),
    ("SC1003", re.compile(r"\\")),
    ("SC1110,SC1111,SC1112", re.compile("[\u2018-\u201f]")),
    ("SC2016", re.compile(r"[$`]")),
    ("SC2028", re.compile(r"\\")),
    ("SC2088", re.compile(r"^~")),
)
_LEADS_UP = re.compile(r"(?:\.{1,2}/+)*\.\.(?:/|$)")


def reproduction_script(
    plan: Plan, generated: datetime, config: ScriptConfig, track: Callable[[Iterable[Step]], Iterable[Step]] = iter
) -> str:
    """The script. Times are shown in the zone of `generated`, in UTC where it has none.

    The steps go through `track`, which may tell how far they are.
    """
    zone = generated.tzinfo or UTC
    patches = {
        step.patch.sha256: step.patch.content for step in plan.steps if step.patch and step.patch.content is not None
    }
    patched = {digest: patched_paths(content) for digest, content in patches.items()}
    return render(
        _TEMPLATE,
        generated=generated.isoformat(timespec="seconds"),
        span=[moment.astimezone(zone).date() for moment in (plan.start, plan.end) if moment is not None],
        plan_id=plan_id(plan),
        total=len(plan.steps),
        steps=(_written(step, zone, patched) for step in track(plan.steps)),
        any_commit="1" if any(step.commit for step in plan.steps) else "",
        left_out=[
            {"title": _title(left.entry), "started": _moment(left.entry, zone), "reason": left.reason}
            for left in plan.left_out
        ],
        patches=[{"sha256": digest, "lines": _base64(content)} for digest, content in patches.items()],
        config=config,
    )


def plan_id(plan: Plan) -> str:
    """The same for the same steps: twelve hexadecimal digits."""
    digest = hashlib.sha256()
    for step in plan.steps:
        patch = step.patch.sha256 if step.patch else None
        digest.update(repr((step.entry.operation_id, step.argv, step.commit, patch)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:12]


class _Piece(NamedTuple):
    """A part of a word: a variable of the script, or a text."""

    variable: str
    text: str


class _Line(NamedTuple):
    """A line of a command: people break it before each flag, and a flag's `values` stay with it.

    The first line has the program and its arguments for `words`. Where a variable stands for a part of any of them,
    `mixed` has each word of the line in pieces.
    """

    is_flag: bool
    words: list[str]
    values: list[str]
    mixed: list[list[_Piece]]


class _Declared(NamedTuple):
    words: list[str]
    codes: str


class _Written(NamedTuple):
    """A step as the template needs it."""

    number: int
    title: str
    executing: str
    commit: str | None
    state: list[str]
    remarks: list[str]
    warnings: list[_Declared]
    note: str | None
    declarations: list[_Declared]
    lines: list[_Line]
    echo_codes: str
    note_codes: str
    run_codes: str


def _written(step: Step, zone: tzinfo, patched: dict[str, set[str]]) -> _Written:
    entry = step.entry
    title = _title(entry)
    moment = _moment(entry, zone)
    executing = f"Executing: {title} ({moment})"
    note = visible(reproduction_note(entry.note) or "")
    return _Written(
        number=step.number,
        title=title,
        executing=executing,
        commit=step.commit,
        state=list(_state(step)),
        remarks=list(_remarks(step)),
        warnings=[_Declared([warning], _codes(warning)) for warning in _warnings(step)],
        note=note,
        declarations=[_Declared(words, _codes(*words)) for words in _declarations(step, moment, patched)],
        lines=list(_lines(step)),
        echo_codes=_codes(executing),
        note_codes=_codes(note),
        run_codes=_codes(*step.argv),
    )


def _title(entry: LogEntry) -> str:
    return visible(f"{entry.tool_name} {entry.operation}")


def _moment(entry: LogEntry, zone: tzinfo) -> str:
    return entry.timestamp.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def _state(step: Step) -> Iterator[str]:
    """What git_checkout is told beside the commit."""
    if step.patch:
        yield step.patch.sha256
        if step.patch.exact and step.patch.tree:
            yield step.patch.tree
    elif step.entry.git_dirty is False:
        yield "clean"


def _remarks(step: Step) -> Iterator[str]:
    entry = step.entry
    branch = f" on branch {entry.git_branch}" if entry.git_branch else ""
    yield f"Record {entry.operation_id} by {entry.user_name}{branch}"
    if entry.git_commit_hash is None:
        yield "No commit was recorded: it runs with what is checked out"
    if step.directory is None and entry.working_directory:
        yield f"It ran in {entry.working_directory}, in no known repository; here it runs in the tree's root"
    tool = entry.context.get("tool")
    git = tool.get("git") if isinstance(tool, dict) else None
    if isinstance(git, dict) and git.get("commit"):
        yield f"The tool's own code, which this script does not restore: {git.get('root')} at commit {git['commit']}"


def _warnings(step: Step) -> Iterator[str]:
    number = step.number
    if step.entry.git_commit_hash is not None and step.commit is None:
        yield f"Warning: the commit of operation {number} is unknown; it runs with what is checked out"
    if step.entry.git_dirty and step.patch is None:
        yield f"Warning: operation {number} ran with uncommitted changes that this script does not have"
    if step.patch and not step.patch.exact:
        yield f"Warning: not all uncommitted changes of operation {number} are in this script: {_lacking(step.patch)}"


def _lacking(patch: Patch) -> str:
    if not patch.left_out:
        return "a secret in them was replaced"
    more = len(patch.left_out) - _MOST_NAMED
    return "; ".join(map(visible, patch.left_out[:_MOST_NAMED])) + (f"; and {more} more" if more > 0 else "")


def _declarations(step: Step, moment: str, patched: dict[str, set[str]]) -> Iterator[list[str]]:
    """The lines that tell the script what the operation was: a function of the template each."""
    entry = step.entry
    seconds = "-" if entry.duration_seconds is None else f"{entry.duration_seconds:.3f}"
    names = (visible(entry.tool_name), visible(entry.operation))
    yield ["record", entry.operation_id, *names, moment, seconds, str(step.expected_exit_code), _shown(step.argv)]
    if step.commit and repository_root(entry):
        yield ["of_repository", _repository(entry)]
    if step.directory:
        yield ["inside", step.directory]
    if step.code_file:
        yield ["code_in", step.code_file]
    if below(step.argv[0], step.root) != step.argv[0]:
        yield ["program_was", step.argv[0]]
    if step.beyond:
        yield ["asks_first", step.beyond]
    for secret in step.secrets:
        yield ["needs_secret", secret]
    brought = patched.get(step.patch.sha256, set()) if step.patch else set()
    beside = _beside(step)
    for file in step.inputs:
        if file.path not in brought:
            origin = [file.recorded_path] if file.path != file.recorded_path and not file.made_by else []
            yield ["reads", beside.get(file.path, file.path), file.sha256 or "-", str(file.made_by), *origin]
    made_again = brought.difference(file.path for file in step.inputs)
    for file in step.outputs:
        again = ["again"] if file.path in made_again else []
        yield ["makes", beside.get(file.path, file.path), file.sha256 or "-", str(file.size), *again]


def _shown(argv: list[str]) -> str:
    """The beginning of a command, for a list."""
    text = visible(" ".join(map(shell_word, argv)))
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"


def _repository(entry: LogEntry) -> str:
    """The recorded repository as a person knows it: its folder, and where that was cloned from."""
    remote = entry.context["git"].get("remote")
    return visible(f"{repository_root(entry)} (a clone of {remote})" if remote else f"{repository_root(entry)}")


def _lines(step: Step) -> Iterator[_Line]:
    starts = [number for number, word in enumerate(step.argv) if number and word.startswith("-")]
    for start, end in pairwise((0, *starts, len(step.argv))):
        line = step.argv[start:end]
        mixed = _mixed(line, step)
        yield _Line(True, line[:1], line[1:], mixed) if start else _Line(False, line, [], mixed)


def _mixed(line: list[str], step: Step) -> list[list[_Piece]]:
    text = " ".join(line)
    if not step.secrets and ".." not in text and (step.root is None or step.root not in text):  # as most lines are
        return []
    pieces = [_pieces(word, step) for word in line]
    return [found or [_Piece("", word)] for found, word in zip(pieces, line, strict=True)] if any(pieces) else []


def _pieces(word: str, step: Step) -> list[_Piece]:
    """The word, with the working tree in the place of the recorded root, and variables in the place of secrets.

    What `..` leads to out of the root is sought beside the clone, as it was beside the root. None where it has neither.
    """
    before, value = before_and_value(word)
    path = below(value, step.root)
    around = _around(value, step)
    if around:
        variable = "clone" if around.startswith("../") else "tree"
        pieces = [_Piece("", before), _Piece(variable, ""), *_texts(f"/{around}", step.secrets)]
    elif step.root and (path != value or value == step.root):
        rest = value[len(step.root) :]
        pieces = [_Piece("", before), _Piece("tree", ""), *_texts(rest, step.secrets)]
    else:
        pieces = _texts(word, step.secrets)
    has_variables = any(piece.variable for piece in pieces)
    return [piece for piece in pieces if piece.variable or piece.text] if has_variables else []


def _around(value: str, step: Step) -> str | None:
    """Where a path leads that leaves the root by the `..` at its beginning, as seen from the root; None of others."""
    directory, up = step.entry.working_directory, _LEADS_UP.match(value)
    leaves = up and (from_root(up[0], directory, step.root) or "").startswith("../")
    return from_root(value, directory, step.root) if leaves else None


def _beside(step: Step) -> dict[str, str]:
    """The files outside the root that the command reaches by `..`, as seen from the root."""
    words = [word for word in step.argv if ".." in word] if step.inputs or step.outputs else []
    around = [_around(before_and_value(word)[1], step) or "" for word in words]
    reached = tuple(f"{place.rstrip('/')}/" for place in around if place.startswith("../"))
    files = (*step.inputs, *step.outputs) if reached else ()
    places = {file.path: posixpath.relpath(file.recorded_path, step.root) for file in files}
    return {path: place for path, place in places.items() if f"{place}/".startswith(reached)}


def _texts(text: str, secrets: tuple[str, ...]) -> list[_Piece]:
    if not secrets:
        return [_Piece("", text)]
    parts = SECRET.split(text)
    return [_Piece(f"SECRET_{part}", "") if number % 2 else _Piece("", part) for number, part in enumerate(parts)]


def _base64(content: bytes) -> Iterable[str]:
    text = base64.b64encode(content).decode("ascii")
    return (text[first : first + _BASE64_LINE] for first in range(0, len(text), _BASE64_LINE))


def _codes(*words: str) -> str:
    """The warnings that these words would raise in quotes, which is how the script writes them."""
    text = "".join(words)
    if text.isascii() and not any(sign in text for sign in "\\$`~") and _RESERVED.isdisjoint(words):  # as most are
        return ""
    return ",".join(codes for codes, cause in _EXACT_WORDS if any(cause.search(word) for word in words))
