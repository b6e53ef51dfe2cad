"""A plan as a bash script that a colleague can read, trust and run.

Pure: plan in, text out. Everything that came from a record reaches the text through a filter of `render`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from audit_dagster.entry import LogEntry
from audit_dagster.render import render, visible
from audit_dagster.reproduction.plan import Plan, ScriptConfig, Step, reproduction_note

_TEMPLATE = "reproduction_script.sh.j2"
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
# What shellcheck says about words that are meant exactly as they stand, by what makes it say so.
_EXACT_WORDS = (
    ("SC1010", re.compile(r"^(then|elif|else|fi|do|done|esac)$")),
    ("SC1003", re.compile(r"\\")),
    ("SC1110,SC1111,SC1112", re.compile("[\u2018-\u201f]")),
    ("SC2016", re.compile(r"[$`]")),
    ("SC2028", re.compile(r"\\")),
    ("SC2088", re.compile(r"^~")),
)


def reproduction_script(plan: Plan, generated: datetime, config: ScriptConfig) -> str:
    """The script. Times are shown in the zone of `generated`, in UTC where it has none."""
    zone = generated.tzinfo or UTC
    steps = [_written(step, zone) for step in plan.steps]
    return render(
        _TEMPLATE,
        generated=generated.isoformat(timespec="seconds"),
        span=[moment.astimezone(zone).date() for moment in (plan.start, plan.end) if moment is not None],
        steps=steps,
        commits=list(dict.fromkeys(step.commit for step in steps if step.commit)),
        left_out=[
            {"title": _title(left.entry), "started": _moment(left.entry, zone), "reason": left.reason}
            for left in plan.left_out
        ],
        config=config,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """A step as the template needs it: `program` is the command's first line, each of `options` one that follows."""

    number: int
    title: str
    executing: str
    commit: str | None
    remarks: list[str]
    warnings: list[str]
    note: str | None
    directory: str
    recorded_seconds: float | None
    program: list[str]
    options: list[list[str]]
    echo_codes: str
    note_codes: str
    run_codes: str


def _written(step: Step, zone: tzinfo) -> _Written:
    entry = step.entry
    commit = entry.git_commit_hash
    known = commit is not None and _COMMIT.fullmatch(commit) is not None
    title = _title(entry)
    executing = f"Executing: {title} ({_moment(entry, zone)})"
    note = None if step.rebuilt else visible(reproduction_note(entry.note) or "")
    program, options = _lines(step.argv)
    return _Written(
        number=step.number,
        title=title,
        executing=executing,
        commit=commit if known else None,
        remarks=list(_remarks(step)),
        warnings=list(_warnings(step, commit_is_odd=commit is not None and not known)),
        note=note,
        directory=step.directory or "",
        recorded_seconds=entry.duration_seconds,
        program=program,
        options=options,
        echo_codes=_shellcheck_codes([executing]),
        note_codes=_shellcheck_codes([note or ""]),
        run_codes=_shellcheck_codes([step.directory or "", *step.argv]),
    )


def _title(entry: LogEntry) -> str:
    return visible(f"{entry.tool_name} {entry.operation}")


def _moment(entry: LogEntry, zone: tzinfo) -> str:
    return entry.timestamp.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def _remarks(step: Step) -> Iterable[str]:
    entry = step.entry
    branch = f" on branch {entry.git_branch}" if entry.git_branch else ""
    yield f"Record {entry.operation_id} by {entry.user_name}{branch}"
    if entry.git_commit_hash is None:
        yield "No commit was recorded: it runs with what is checked out"
    if step.directory is None and entry.working_directory:
        yield f"It ran in {entry.working_directory}, in no known repository; here it runs in the repository's root"


def _warnings(step: Step, *, commit_is_odd: bool) -> Iterable[str]:
    if commit_is_odd:
        yield f"Warning: the commit of operation {step.number} is unknown; it runs with what is checked out"
    if step.entry.git_dirty:
        yield f"Warning: operation {step.number} ran with uncommitted changes that this script does not have"


def _lines(argv: list[str]) -> tuple[list[str], list[list[str]]]:
    """Break a command as people do: each word with a dash in front starts a line, the words after it stay with it."""
    program, options = [argv[0]], list[list[str]]()
    for word in argv[1:]:
        if word.startswith("-"):
            options.append([word])
        else:
            (options[-1] if options else program).append(word)
    return program, options


def _shellcheck_codes(words: list[str]) -> str:
    """The warnings that these words would raise in quotes, which is how the script writes them."""
    return ",".join(codes for codes, cause in _EXACT_WORDS if any(cause.search(word) for word in words))
