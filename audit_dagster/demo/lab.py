"""The demo's repository: a field station's tools in three commits, and the operations of two weeks."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

_FILES = Path(__file__).parent / "lab"
_COMMITS = ("Extract and parse the station's packets", "Skip damaged packets; draw figures", "Decode UIDs")
_AUTHOR = ("Field Station", "station@example.org")
_PROJECTS = {"Winter Turf - v3": ("node-a", "node-b"), "LCCMR Irrigation": ("node-c", "node-d")}
_DAMAGED = 97  # every so many packets


@dataclass(frozen=True, slots=True)
class DemoOperation:
    """One command of the demo: at which commit, when, and what was said about it."""

    commit: int
    day: int  # days after the first Monday
    clock: str
    tool_name: str
    operation: str
    arguments: tuple[str, ...]
    note: str | None = None


def _extract(project: str, first: str, last: str, output: str) -> tuple[str, ...]:
    words = ("tools/extract.py", "--project", project, "--start-date", first, "--end-date", last)
    return (*words, "--output", f"data/{output}")


def _draw(file: str, parameter: str, output: str) -> tuple[str, ...]:
    return ("tools/visualize.py", "--file", f"data/{file}", "--parameter", parameter, "--output", f"figures/{output}")


_TURF, _LCCMR = tuple(_PROJECTS)
OPERATIONS = (
    DemoOperation(0, 3, "09:12", "sensing-data", "extract", _extract(_TURF, "2023-01-02", "2023-01-08", "turf.log")),
    DemoOperation(
        0, 3, "09:14", "data-parser", "parse", ("tools/parse.py", "data/turf.log", "--output", "data/turf.csv")
    ),
    DemoOperation(
        0,
        4,
        "10:30",
        "sensing-data",
        "extract",
        _extract("Winter Turf", "2023-01-02", "2023-01-08", "winter.log"),
        note="Is it \"Winter Turf\" or 'Winter Turf - v3'?",
    ),
    DemoOperation(
        1,
        7,
        "08:55",
        "data-parser",
        "parse",
        ("tools/parse.py", "data/turf.log", "--output", "data/turf.csv"),
        note="Again, now that damaged packets are skipped",
    ),
    DemoOperation(
        1,
        7,
        "09:01",
        "visualization",
        "create",
        _draw("turf.csv", "temperature", "turf temperature.svg"),
        note="Below -5 °C at night?\nAsk about the sensor's depth.",
    ),
    DemoOperation(1, 7, "09:03", "visualization", "create", _draw("turf.csv", "humidity", "humidity.svg")),
    DemoOperation(1, 7, "09:05", "visualization", "create", _draw("turf.csv", "moisture", "turf moisture.svg")),
    DemoOperation(
        1,
        8,
        "13:20",
        "sensing-data",
        "extract",
        _extract(_LCCMR, "2023-01-02", "2023-01-15", "lccmr.log"),
        note="For the report; costs $(none), `really`",
    ),
    DemoOperation(
        1, 8, "13:22", "data-parser", "parse", ("tools/parse.py", "data/lccmr.log", "--output", "data/lccmr.csv")
    ),
    DemoOperation(1, 8, "13:40", "visualization", "create", _draw("lccmr.csv", "moisture", "lccmr moisture.svg")),
    DemoOperation(1, 8, "13:45", "visualization", "create", _draw("missing.csv", "moisture", "missing.svg")),
    DemoOperation(
        0,
        9,
        "16:02",
        "data-parser",
        "parse",
        ("tools/parse.py", "data/lccmr.log", "--output", "data/old.csv"),
        note="What did the version of last week say?",
    ),
    DemoOperation(
        2,
        10,
        "11:10",
        "device-configuration",
        "decode",
        ("tools/decode.py", "590014284", "--output", "data/uid 590014284.json"),
    ),
    DemoOperation(
        2,
        10,
        "11:11",
        "device-configuration",
        "decode",
        ("tools/decode.py", "19922944", "--output", "data/uid 19922944.json"),
        note="FRAM_INDEX_EXCEEDED on this node",
    ),
    DemoOperation(
        2,
        10,
        "11:12",
        "device-configuration",
        "decode",
        ("tools/decode.py", "e00fce68", "--output", "data/uid e00fce68.json"),
    ),
    DemoOperation(
        2, 10, "15:30", "visualization", "create", _draw("lccmr.csv", "temperature", "lccmr temperature.svg")
    ),
    DemoOperation(
        2, 11, "09:00", "sensing-data", "extract", _extract(_TURF, "2023-01-09", "2023-01-15", "turf week 2.log")
    ),
    DemoOperation(
        2,
        11,
        "09:02",
        "data-parser",
        "parse",
        ("tools/parse.py", "data/turf week 2.log", "--output", "data/turf week 2.csv"),
    ),
    DemoOperation(
        2,
        11,
        "09:04",
        "visualization",
        "create",
        _draw("turf week 2.csv", "moisture", "turf week 2.svg"),
        note="Figure 3; titles say which table it was",
    ),
    DemoOperation(1, 11, "17:45", "visualization", "create", _draw("turf week 2.csv", "moisture", "without title.svg")),
)


def first_monday(today: date) -> date:
    """The Monday of the week before the last whole one: every partition of the demo's two weeks has ended."""
    return today - timedelta(days=today.weekday() + 14)


def start_of(operation: DemoOperation, monday: date, zone: ZoneInfo) -> datetime:
    """When the operation is said to have started."""
    return datetime.combine(monday + timedelta(days=operation.day), time.fromisoformat(operation.clock), zone)


def make_repository(folder: Path) -> list[str]:
    """Make the station's repository with its three commits; their hashes, the same wherever it is made.

    `origin.git` beside it is where they are pushed to: others can get them.
    """
    from git import Actor, Repo

    repository = Repo.init(folder, initial_branch="main")
    with repository.config_writer() as config:
        config.set_value("commit", "gpgsign", "false")
        config.set_value("core", "autocrlf", "false")
    author = Actor(*_AUTHOR)
    (folder / "raw").mkdir()
    (folder / "raw" / "station.log").write_text(_raw_log(), "utf-8")
    hashes = []
    for number, message in enumerate(_COMMITS, start=1):
        shutil.copytree(_FILES / f"commit_{number}", folder, dirs_exist_ok=True)
        repository.git.add(all=True)
        moment = f"2023-01-{number + 15} 08:00:00 +0000"
        commit = repository.index.commit(
            message, author=author, committer=author, author_date=moment, commit_date=moment, skip_hooks=True
        )
        hashes.append(commit.hexsha)
    Repo.init(folder.with_name("origin.git"), bare=True, initial_branch="main").close()
    repository.create_remote("origin", "../origin.git")
    repository.git.push("--quiet", "--no-verify", "--set-upstream", "origin", "main")
    repository.close()
    return hashes


def _raw_log() -> str:
    """Two weeks of packets, four an hour from each node: a daily wave with a little noise, always the same."""
    noise = random.Random(20230102)  # noqa: S311 - weather, not a secret
    lines: list[str] = []
    for step in range(14 * 96):
        moment = datetime(2023, 1, 2) + timedelta(minutes=15 * step)
        for project, nodes in _PROJECTS.items():
            for place, node in enumerate(nodes):
                hours = (moment.hour + moment.minute / 60 + 3 * place) % 24
                temperature = int((40 - 3 + 6 * (1 - abs(hours - 14) / 7) + noise.uniform(-0.5, 0.5)) * 100)
                moisture = int(240 + 30 * place + noise.uniform(-8, 8))
                checksum = (temperature + moisture + (len(lines) % _DAMAGED == _DAMAGED - 1)) % 256
                lines.append(f"{moment.isoformat()},{project},{node},{temperature:04x}{moisture:04x}{checksum:02x}\n")
    return "".join(lines)
