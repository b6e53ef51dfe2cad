"""The guide is true: every block of it runs against a real database, and nothing that exists is missing from it."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import psycopg
import pytest

import audit_dagster
from audit_dagster.audit_service import AuditService
from audit_dagster.cli import cli
from audit_dagster.entry import LogEntry
from audit_dagster.report_service import generate_report
from audit_dagster.reports.totals import stated_totals
from audit_dagster.reproduction.plan import ScriptConfig, make_plan
from audit_dagster.reproduction.script import reproduction_script
from audit_dagster.settings import PostgresSettings, Settings
from audit_dagster_tests.conftest import make_entry
from audit_dagster_tests.reports.test_documents import DOCUMENTED_SAMPLE

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "guide.md").read_text("utf-8")
PROSE = re.sub(r"^```.*?^```$", "", GUIDE, flags=re.DOTALL | re.MULTILINE)
VARIABLE = re.compile(r"(?<![A-Za-z0-9_])(?:AUDIT|POSTGRES)_[A-Z][A-Z_]*[A-Z](?![A-Za-z0-9_])")
BIN = Path(sys.prefix) / "bin"


@dataclass(frozen=True)
class Block:
    """A code block, and the heading that it stands under."""

    heading: str
    language: str
    code: str


def read_blocks(text: str) -> Iterator[Block]:
    heading, language, lines = "", None, list[str]()
    for line in text.splitlines():
        if language is not None and line == "```":
            yield Block(heading, language, "\n".join(lines) + "\n")
            language = None
        elif language is not None:
            lines.append(line)
        elif line.startswith("```"):
            language, lines = line.removeprefix("```"), []
        elif line.startswith("#"):
            heading = line.lstrip("# ")


BLOCKS = list(read_blocks(GUIDE))


def blocks_in(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


def only_block(language: str) -> Block:
    (block,) = blocks_in(language)
    return block


# ---- What the blocks find in the database ----


def june(day: int, hour: int = 9, minute: int = 0) -> datetime:
    return datetime(2023, 6, day, hour, minute, tzinfo=UTC)


DOCUMENTED = make_entry(
    timestamp=datetime(2023, 6, 15, 14, 30, 22, 123000, tzinfo=UTC),
    user_name="username",
    git_branch="feature/analysis",
    git_commit_hash="abc1234def5678abc1234def5678abc1234def56",
    parameters={"project": "Winter Turf - v3", "start_date": "2023-01-01", "end_date": "2023-01-31"},
    results={
        "records_extracted": 15420,
        "output_file": "./data/Winter_Turf_v3_2023-01-01_to_2023-01-31.csv",
    },
    duration_seconds=45.7,
    note="Monthly analysis for winter conditions",
)


def june_entries() -> list[LogEntry]:
    plot = {"tool_name": "visualization", "operation": "create"}
    grid = {"tool_name": "gridded-data", "operation": "download"}
    listing = {"operation": "list-projects", "duration_seconds": None}
    failed = {"success": False, "duration_seconds": 0.25}
    return [
        make_entry(timestamp=june(1), duration_seconds=12.5, note='the "north" plot, 20 °C'),
        make_entry(timestamp=june(1, 10), **listing),
        make_entry(timestamp=june(5), **plot, duration_seconds=3.25, note="O'Brien's site"),
        make_entry(timestamp=june(8), **grid, duration_seconds=100.0, command=["rtgs", "gridded-data", "download"]),
        make_entry(timestamp=june(8, 11), **grid, duration_seconds=80.5),
        DOCUMENTED,
        make_entry(timestamp=june(15, 14, 32), **plot, duration_seconds=2.0),
        make_entry(timestamp=june(15, 15), **plot, **failed, error_message="no column 'Temperature °C'"),
        make_entry(timestamp=june(15, 16), **grid, duration_seconds=61.0),
        make_entry(timestamp=june(15, 17), duration_seconds=7.0, note="`code` | pipe\nsecond line"),
        make_entry(timestamp=june(20), **grid, **failed, error_message="503 Service Unavailable"),
        make_entry(timestamp=june(30, 23, 59), duration_seconds=1.75),
    ]


def recent_entries() -> list[LogEntry]:
    def ago(**how_long: int) -> dict[str, Any]:
        return {"timestamp": datetime.now(UTC) - timedelta(**how_long)}

    return [
        make_entry(**ago(minutes=5), note="last look, 21 °C"),
        make_entry(**ago(minutes=20), tool_name="visualization", operation="create", note='"final" figure'),
        make_entry(**ago(minutes=50), tool_name="gridded-data", operation="download"),
        make_entry(**ago(minutes=100), operation="extract"),
        make_entry(**ago(days=3), success=False, error_message="disk full"),
        make_entry(**ago(days=5)),
        make_entry(**ago(days=10), tool_name="visualization"),
        make_entry(**ago(days=20), tool_name="gridded-data"),
        make_entry(**ago(days=26)),
    ]


@dataclass(frozen=True)
class Lab:
    """A folder with what the guide's reader has: rows, folders of reports, a script, an earlier history."""

    folder: Path
    june: list[LogEntry]
    recent: list[LogEntry]
    settings: Settings

    def durations(self, tool_name: str) -> list[float]:
        found = (entry.duration_seconds for entry in self.june if entry.tool_name == tool_name)
        return [duration for duration in found if duration is not None]

    def tools(self) -> list[str]:
        return sorted({entry.tool_name for entry in self.june})


@pytest.fixture
def lab(
    settings: Settings,
    store: Callable[..., list[LogEntry]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Lab:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    made = Lab(tmp_path, store(*june_entries()), store(*recent_entries()), settings)
    generate_report("2023-06-01", "2023-06-30", tmp_path / "logs")
    for name in ("filtered_logs", "shared_analysis_logs"):
        shutil.copytree(tmp_path / "logs", tmp_path / name)
    (tmp_path / "extract.py").write_text("import sys\nprint(sys.argv[1:])\n")
    earlier = tmp_path / "old_logs"
    earlier.mkdir()
    (earlier / "log.md").write_text(EARLIER_LOG, "utf-8")
    return made


EARLIER_LOG = """# Data-Extraction Execution Log

## Execution Context
- **Timestamp**: 2023-05-02T10:00:00
- **User**: ada
- **Tool**: data-extraction
- **Operation**: Extract data

## Results Summary
- **Status**: ✅ Success

## Detailed Results
```json
{"success": true, "records_extracted": 7}
```

## Execution Environment
```json
{"timestamp": "2023-05-02T10:00:00", "tool_name": "data-extraction", "user": "ada"}
```
"""

# ---- Python ----

Check = Callable[[str, Lab], None]


def lines_with(output: str, start: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith(start)]


def steps_of(script: Path) -> list[str]:
    subprocess.run(["bash", "-n", script], check=True)
    return re.findall(r"^# Operation \d+: (.*)$", script.read_text("utf-8"), re.MULTILINE)


def numbers_of(output: str, tool_name: str) -> list[float]:
    (line,) = lines_with(output, tool_name)
    return [float(word) for word in line.removeprefix(tool_name).split()]


def first_steps(output: str, lab: Lab) -> None:
    files = sorted((lab.folder / "audit_reports").glob("*.md"))
    assert f"Generated {len(files)} report files" in output
    assert [file.stem for file in files] == sorted({str(entry.timestamp.date()) for entry in lab.june})
    of_tool = [entry for entry in (*lab.june, *lab.recent) if entry.tool_name == "sensing-data"]
    listed = [line for line in output.splitlines() if line.endswith((" - success", " - failed"))]
    assert len(listed) == len(of_tool)
    assert sum(line.endswith(" - failed") for line in listed) == sum(not entry.success for entry in of_tool)
    assert listed == sorted(listed, reverse=True)
    assert "2023-06-15 14:30:22.123000+00:00: extract - success" in listed
    assert "Created reproduction script: reproduce_june_analysis.sh" in output
    assert len(steps_of(lab.folder / "reproduce_june_analysis.sh")) == sum(entry.success for entry in lab.june)


def counting(output: str, lab: Lab) -> None:
    for tool_name in lab.tools():
        durations = lab.durations(tool_name)
        entries = [entry for entry in lab.june if entry.tool_name == tool_name]
        success = statistics.mean(entry.success for entry in entries)
        expected = [len(entries), statistics.mean(durations), sum(durations), success]
        assert numbers_of(output, tool_name) == pytest.approx(expected, abs=0.006)
    assert "Most active day: 2023-06-15 (5 operations)" in output


def weekly(output: str, lab: Lab) -> None:
    lines = output.splitlines()
    assert len(lines) == 5  # four weeks reach into five
    totals = 0
    for line in lines:
        week, path = re.fullmatch(r"Week (\d{4}-W\d\d): (.*)", line).groups()  # type: ignore[union-attr]
        text = (lab.folder / path).read_text("utf-8")
        assert text.startswith(f"# Weekly Summary - {week}\n")
        totals += stated_totals(text).operations
    assert totals == len(lab.recent)


def chosen_script(output: str, lab: Lab) -> None:
    assert output == "Custom script created: custom_reproduction.sh\n"
    script = lab.folder / "custom_reproduction.sh"
    wanted = [
        f"{entry.tool_name} {entry.operation}"
        for entry in sorted(lab.june, key=lambda entry: entry.timestamp)
        if entry.success and entry.tool_name != "gridded-data" and entry.operation != "list-projects"
    ]
    assert steps_of(script) == wanted
    text = script.read_text("utf-8")
    assert "its operation is among exclude_operations" in text
    assert "took %ss (recorded: %s)" in text


def objects(output: str, lab: Lab) -> None:
    assert [line.split()[-2:] for line in output.splitlines()] == [["extract", "True"]] * 3


def session(output: str, lab: Lab) -> None:
    within = lab.recent[:4]
    steps = [f"  {n}. {entry.tool_name} {entry.operation}" for n, entry in enumerate(within, start=1)]
    assert [line for line in output.splitlines() if re.match(r"  \d", line)] == steps
    assert output.count("     Duration: 1.5s\n") == 4
    assert "     Note: last look, 21 °C\n" in output
    assert output.count("     Note: ") == 2


def failed_days(output: str, lab: Lab) -> None:
    marked = [path for path in (lab.folder / "qa_review").glob("*.md") if "❌" in path.read_text("utf-8")]
    assert [path.stem for path in marked] == [str(lab.recent[4].timestamp.date())]
    assert output == "QA Review: 1 files contain failed operations\n"


def shared(output: str, lab: Lab) -> None:
    steps = steps_of(lab.folder / "shared_analysis_reproduction.sh")
    assert len(steps) == sum(entry.success for entry in lab.june)
    assert output.splitlines()[1:] == [
        "  Script: shared_analysis_reproduction.sh",
        f"  Operations: {len(steps)}",
        "  Time span: 2023-06-01 to 2023-06-30",
    ]


def switched_off(output: str, lab: Lab) -> None:
    assert output == "Postgres logging enabled: False\n"
    assert audit_dagster.get_logging_status()["decided_by"] == "settings file"


def week_folders(output: str, lab: Lab) -> None:
    assert output == "Generated reports for 5 weeks\n"
    days = {path.stem for path in (lab.folder / "reports").glob("week_*/*.md")}
    assert days == {str(entry.timestamp.date()) for entry in lab.recent}


def performance(output: str, lab: Lab) -> None:
    for tool_name in lab.tools():
        known = lab.durations(tool_name)
        expected = [len(known), statistics.mean(known), statistics.stdev(known), min(known), max(known)]
        assert numbers_of(output, tool_name) == pytest.approx(expected, abs=0.006)


def other_modules(output: str, lab: Lab) -> None:
    lines = output.splitlines()
    assert lines[:2] == ["visualization: create_time_series_plot - True", "sensing-data: extract_data - True"]
    assert len(lines) == 5


def own_step(output: str, lab: Lab) -> None:
    (entry,) = AuditService(lab.settings).recent_entries(1)
    assert (entry.tool_name, entry.operation, entry.success) == ("custom_analysis", "statistical_summary", True)
    assert entry.results == {"mean_temperature": 2.0, "std_temperature": 1.0}
    assert entry.note == "Statistical summary of temperature data"


def decorated(output: str, lab: Lab) -> None:
    assert output == "68.0\nto_fahrenheit\n"


def refused(output: str, lab: Lab) -> None:
    assert output.startswith("Nothing was written: the end date 2023-06-01 is before the start date 2023-06-30")


STAND_IN = """
from audit_dagster import log_custom_operation
class sensing_data:
    @log_custom_operation("sensing-data", "extract_data")
    def extract_data(project):
        return [1.0, 2.0, 3.0]
class visualization:
    @log_custom_operation("visualization", "create_time_series_plot")
    def create_time_series_plot(data, parameter):
        return f"{parameter}: {data}"
"""
OWN_FUNCTION = """
import pandas
data = [1.0, 2.0, 3.0]
def perform_statistical_analysis(data):
    return pandas.Series(data)
"""

# By heading: what the block has to have done, one check for each block below it.
PYTHON_CHECKS: dict[str, list[Check]] = {
    "First steps": [first_steps],
    "Counting with pandas": [counting],
    "Weekly summaries": [weekly],
    "A script with choices": [chosen_script],
    "Entries as objects": [objects],
    "Follow a working session": [session],
    "Find the days on which something failed": [failed_days],
    "Hand an analysis to a colleague": [shared],
    "The logging switch in Python": [switched_off],
    "One folder of reports for each week": [week_folders],
    "How fast the tools are, with a chart": [performance],
    "Beside the lab's other modules": [other_modules],
    "A step of your own": [own_step, decorated],
    "Exit codes and errors": [refused],
}
NEEDS_BEFORE: dict[Check, str] = {own_step: OWN_FUNCTION}


def python_cases() -> list[tuple[Block, Check]]:
    blocks = blocks_in("python")
    headings = list(dict.fromkeys(block.heading for block in blocks))
    cases = []
    for heading in headings:
        below = [block for block in blocks if block.heading == heading]
        cases += list(zip(below, PYTHON_CHECKS.get(heading, []), strict=False))
    return cases


def test_every_python_block_is_checked() -> None:
    assert len(python_cases()) == len(blocks_in("python")) == sum(map(len, PYTHON_CHECKS.values()))


@pytest.mark.parametrize(("block", "check"), python_cases(), ids=lambda value: getattr(value, "__name__", ""))
def test_python_block(block: Block, check: Check, lab: Lab) -> None:
    if check is other_modules:
        (lab.folder / "rtgs_lab_tools.py").write_text(STAND_IN)
    (lab.folder / "block.py").write_text(NEEDS_BEFORE.get(check, "") + block.code, "utf-8")
    command = [sys.executable, "-X", "utf8", "block.py"]
    done = subprocess.run(command, cwd=lab.folder, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    # Without a screen matplotlib says that it shows nothing.
    assert done.stderr == "" or (check is performance and "FigureCanvasAgg is non-interactive" in done.stderr)
    check(done.stdout, lab)


# ---- Bash ----

_SERVES = "it serves Dagster until Ctrl-C; the tests of dev start it"
_DEMO = "it takes half a minute; the tests of the demo run it"
NOT_RUN = {
    "audit-dagster dev": _SERVES,
    "audit-dagster dev --port 3001": _SERVES,
    "audit-dagster demo": _DEMO,
    "audit-dagster demo --directory ./try_it": _DEMO,
    'audit-dagster import --table "host=db dbname=rtgs user=reader" --timezone America/Chicago': (
        "it needs another server"
    ),
}


def command_lines(code: str) -> list[str]:
    return [line for line in code.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def test_only_the_listed_lines_are_not_run() -> None:
    written = [line for block in blocks_in("bash") for line in command_lines(block.code)]
    assert [line for line in written if line.startswith(("audit-dagster de", "audit-dagster import --t"))] == sorted(
        NOT_RUN, key=written.index
    )
    assert set(NOT_RUN) <= set(written)


def rows(count: int) -> Check:
    def check(output: str, lab: Lab) -> None:
        assert len(output.splitlines()) == count
        assert all(line.count("\t") == 5 for line in output.splitlines())

    return check


def has(*texts: str) -> Check:
    def check(output: str, lab: Lab) -> None:
        assert all(text in output for text in texts), output

    return check


def only_sensing_data(output: str, lab: Lab) -> None:
    assert {line.split("\t")[2] for line in output.splitlines()} == {"sensing-data"}


def five_entries(output: str, lab: Lab) -> None:
    forms = json.loads(output)
    assert [LogEntry.from_json(form) for form in forms] == lab.recent[:5]


def report_of_june(output: str, lab: Lab) -> None:
    *paths, last = output.splitlines()
    assert last == f"Wrote {len(paths)} daily reports to logs."
    assert all((lab.folder / path).read_text("utf-8").startswith("# Audit Report - 2023-06-") for path in paths)
    assert len(paths) == 6


def report_of_plots(output: str, lab: Lab) -> None:
    assert output.splitlines()[:2] == ["logs/2023-06-05_visualization.md", "logs/2023-06-15_visualization.md"]


def site_of_june(output: str, _lab: Lab) -> None:
    assert output.endswith("/reports/index.html\n")
    page = Path(output.rstrip("\n"))
    assert len(list(page.parent.glob("daily/2023-06-??.html"))) == 30
    assert "2023-06-15: 5 operations, 1 failed" in page.read_text("utf-8")


def script_of_june(output: str, lab: Lab) -> None:
    assert len(steps_of(lab.folder / "reproduce_analysis.sh")) == 10
    assert "reproduce_analysis.sh: 10 of 12 operations, 2023-06-01 to 2023-06-30" in output


def script_of_half_an_hour(output: str, lab: Lab) -> None:
    assert steps_of(lab.folder / "recent_work.sh") == ["visualization create", "sensing-data extract"]


def recorded_run(output: str, lab: Lab) -> None:
    assert output == "['--site', '4']\n"
    (entry,) = AuditService(lab.settings).recent_entries(1)
    assert (entry.tool_name, entry.operation) == ("sensing-data", "extract")
    assert (entry.note, entry.parameters) == ("May export, 20 °C", {"site": "4"})
    assert entry.command == ["python3", "extract.py", "--site", "4"]


def no_own_templates(output: str, _lab: Lab) -> None:
    assert output == ""


REPORT = "rtgs audit report --start-date 2023-06-01 --end-date 2023-06-30"
OUTPUTS: dict[str, Check] = {
    "rtgs audit recent": rows(10),
    "rtgs audit recent --limit 20": rows(20),
    "rtgs audit recent --minutes 60": rows(3),
    "rtgs audit recent --tool-name sensing-data": only_sensing_data,
    "rtgs audit recent --limit 5 --json": five_entries,
    "rtgs audit stats": has("sensing-data\t", "visualization\t", "gridded-data\t"),
    "rtgs audit stats --by day --start-date 2023-06-01 --end-date 2023-06-30": has("2023-06-15\t5\t1\t"),
    "rtgs audit stats --by user --tool-name visualization": has("\t2\t"),
    "rtgs audit stats --by error --start-date 2023-06-01 --end-date 2023-06-30 --json": has("503 Service Unavailable"),
    'rtgs audit search "winter turf"': has("sensing-data\t"),
    "rtgs audit search unavailable --tool-name gridded-data --limit 5 --csv": has("503 Service Unavailable"),
    REPORT: report_of_june,
    f"{REPORT} --tool-name visualization": report_of_plots,
    f"{REPORT} --output-dir ./audit_reports": has("audit_reports/2023-06-15.md\n", "Wrote 6 daily reports"),
    "rtgs audit site": has("/reports/index.html\n"),
    "rtgs audit site --start-date 2023-06-01 --end-date 2023-06-30": site_of_june,
    "rtgs audit reproduce --logs-dir ./logs --output-file reproduce_analysis.sh": script_of_june,
    "rtgs audit reproduce --recent --minutes 30 --output-file recent_work.sh": script_of_half_an_hour,
    "rtgs audit postgres-logging-status": has("Postgres logging: enabled (default)"),
    "rtgs audit enable-postgres-logging": has("Postgres logging: enabled (settings file)"),
    "rtgs audit disable-postgres-logging": has("Postgres logging: disabled (settings file)"),
    "audit-dagster import ./old_logs --timezone America/Chicago": has("1 read, 1 stored, 0 already there, 0 refused"),
    "audit-dagster init-db": has("was up to date"),
    "audit-dagster sync": has("0 stored, 0 already there, 0 in quarantine"),
    "audit-dagster templates list": has("daily_report.html.j2\tshipped\n"),
    "audit-dagster templates show daily_report.html.j2": has('{% extends "page.html.j2" %}'),
    "audit-dagster templates check": no_own_templates,
    "audit-dagster alerts test": has("ok\tfile\n"),
    "audit-dagster alerts list": has("No open incidents."),
    "audit-dagster alerts list --all --json": has("[]"),
    "audit-dagster alerts mute 'sandbox-*' --for 2d": has("Muted 'sandbox-*' until "),
    "audit-dagster alerts unmute 'sandbox-*'": has("No longer muted: 'sandbox-*'."),
    "audit-dagster stop-server": has("The embedded server was not running."),
}


@pytest.mark.parametrize("block", blocks_in("bash"), ids=lambda block: block.heading)
def test_bash_block(block: Block, lab: Lab) -> None:
    for line in command_lines(block.code):
        if line in NOT_RUN:
            continue
        done = subprocess.run(
            ["bash", "-c", line], cwd=lab.folder, capture_output=True, text=True, encoding="utf-8", check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), line
        check = recorded_run if line.startswith("audit-dagster run ") else OUTPUTS.get(line)
        assert check is not None or "--help" in line or "--version" in line or line.endswith(" -h"), line
        if check is not None:
            check(done.stdout, lab)


# ---- The other blocks ----


def test_languages() -> None:
    assert {block.language for block in BLOCKS} == {"python", "bash", "console", "json", "sql", "ini", "markdown", "sh"}


def test_the_log_entry_is_one() -> None:
    form = json.loads(only_block("json").code)
    assert LogEntry.from_json(form).to_json() == form
    documented = DOCUMENTED.to_json()
    differing = {name for name in form if form[name] != documented[name]}
    assert differing == {"operation_id", "user", "git_dirty", "command", "working_directory", "context"}


def test_the_dotenv_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(only_block("ini").code)
    expected = PostgresSettings("localhost", 5432, "rtgs_audit", "audit_user", "audit_password")
    assert Settings.load({}).postgres == expected


def test_the_report_is_the_documented_one() -> None:
    assert only_block("markdown").code == DOCUMENTED_SAMPLE


def test_the_script_has_the_shown_lines_in_their_order() -> None:
    plot = make_entry(
        timestamp=june(1, 14, 32) + timedelta(seconds=15),
        tool_name="visualization",
        operation="create",
        git_commit_hash=DOCUMENTED.git_commit_hash,
        parameters={
            "node_id": "LCCMR_01",
            "parameter": "Temperature",
            "file": "./data/Winter_Turf_v3_2023-01-01_to_2023-01-31.csv",
        },
        note="Temperature analysis visualization",
    )
    first = make_entry(
        timestamp=june(1, 14, 30) + timedelta(seconds=22),
        git_commit_hash=DOCUMENTED.git_commit_hash,
        parameters=DOCUMENTED.parameters,
        note=DOCUMENTED.note,
    )
    config = ScriptConfig()
    generated = datetime(2023, 6, 15, 16, 45, 30, tzinfo=UTC)
    made = iter(reproduction_script(make_plan([plot, first], config), generated, config).splitlines())
    missing = [line for line in only_block("sh").code.splitlines() if line and line not in made]
    assert missing == []


def test_sql_blocks(lab: Lab, connection: psycopg.Connection[Any]) -> None:
    question, grant = blocks_in("sql")
    found = connection.execute(question.code.encode()).fetchall()
    slowest = sorted((e.duration_seconds or 0 for e in lab.june if e.success), reverse=True)
    assert [row[3] or 0 for row in found] == slowest
    assert [row[4] for row in found if row[3] == 45.7] == ["Winter Turf - v3"]
    with connection.transaction(force_rollback=True):
        connection.execute(grant.code.encode())


def test_the_table_has_the_listed_columns(connection: psycopg.Connection[Any]) -> None:
    columns = connection.execute(
        "SELECT attname, replace(format_type(atttypid, atttypmod), 'timestamp with time zone', 'timestamptz')"
        " FROM pg_attribute WHERE attrelid = 'audit_logs'::regclass AND attnum > 0 AND NOT attisdropped"
    ).fetchall()
    listed = re.findall(r"^\| `(\w+)` \| ([a-z][a-z0-9 ]*) \|", section("The table audit_logs"), re.MULTILINE)
    assert sorted(listed) == sorted(columns)
    assert listed[:6] == columns[:6]


# ---- Nothing is missing ----


def section(heading: str) -> str:
    _, _, rest = GUIDE.partition(f"# {heading}\n")
    assert rest, heading
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        yield " ".join((*path, name)), command


def options(command: click.Command) -> list[click.Option]:
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


@pytest.mark.parametrize(("name", "command"), list(commands(cli)))
def test_every_command_and_option_is_explained(name: str, command: click.Command) -> None:
    assert command.help
    assert f"`{name}`" in section("All commands")
    assert any(line.startswith((f"rtgs audit {name}", f"audit-dagster {name}")) for line in GUIDE.splitlines())
    for option in options(command):
        assert option.help, option.name
        assert all(f"`{opt}" in PROSE for opt in option.opts), option.opts
    with click.Context(command) as context:
        for opt in command.get_params(context)[-1].opts:  # --help
            assert re.search(rf" {opt}$", GUIDE, re.MULTILINE)


@pytest.mark.parametrize("name", ["recent", "report", "reproduce", "run", "import"])
def test_the_table_of_a_command_has_its_options(name: str) -> None:
    table = re.search(rf"^\| Option of `{name}` .*?\n\n", GUIDE, re.DOTALL | re.MULTILINE)
    assert table
    listed = re.findall(r"^\| `(--[a-z-]+)", table[0], re.MULTILINE)
    assert listed == [option.opts[0] for option in options(cli.commands[name])]


def test_group_options() -> None:
    assert cli.help
    assert all("audit-dagster " + opt in GUIDE for option in options(cli) for opt in option.opts)


CONTRACT_OPTIONS: dict[str, dict[str, Any]] = {
    "recent": {"--limit": 10, "--tool-name": None, "--minutes": None},
    "report": {"--start-date": None, "--end-date": None, "--tool-name": None, "--output-dir": "logs"},
    "reproduce": {"--logs-dir": "logs", "--output-file": "reproduce_commands.sh", "--recent": False, "--minutes": None},
    "postgres-logging-status": {},
    "enable-postgres-logging": {},
    "disable-postgres-logging": {},
}


@pytest.mark.parametrize("name", CONTRACT_OPTIONS)
def test_the_documented_options_are_there_with_their_defaults(name: str) -> None:
    with click.Context(cli.commands[name]) as context:
        defaults = {opt: option.get_default(context) for option in options(context.command) for opt in option.opts}
    expected = CONTRACT_OPTIONS[name]
    assert {opt: _plain(defaults[opt]) for opt in expected} == expected


def _plain(default: Any) -> Any:
    """click has a mark of its own for `no default`."""
    return default if isinstance(default, bool | int | str) else None


def test_public_names() -> None:
    assert audit_dagster.__all__ == sorted(audit_dagster.__all__)
    listed = re.findall(r"^\| `(\w+)(?:\(.*?\))?` \|", section("Python"), re.MULTILINE)
    assert sorted(listed) == audit_dagster.__all__
    assert all(getattr(audit_dagster, name).__doc__ for name in audit_dagster.__all__)
    assert set(audit_dagster.__all__) <= set(dir(audit_dagster))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = audit_dagster.nothing


def test_signatures_are_those_of_the_code() -> None:
    listed = re.findall(r"^\| `(\w+)\((.*?)\)` \|", section("Python"), re.MULTILINE)
    assert len(listed) == 7
    for name, parameters in listed:
        function = getattr(audit_dagster, name)
        signature = inspect.signature(function)
        for written, (parameter, known) in zip(parameters.split(", "), signature.parameters.items(), strict=False):
            given, _, default = written.partition("=")
            assert given == parameter
            assert not default or default.strip('"') == str(known.default)


def variables_of_the_source() -> set[str]:
    return {name for path in (ROOT / "audit_dagster").rglob("*.py") for name in VARIABLE.findall(path.read_text())}


def test_the_table_of_variables_is_that_of_the_source() -> None:
    listed = re.findall(r"^\| `([A-Z_]+)` \|", section("Configuration"), re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == variables_of_the_source()
    assert set(VARIABLE.findall(GUIDE)) == set(listed)


CONTRACT_VARIABLES = (
    *("POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD"),
    *("AUDIT_STATE_DIR", "AUDIT_SPOOL_DIR", "AUDIT_REPORTS_DIR", "AUDIT_TIMEZONE", "AUDIT_START_DATE"),
    *("POSTGRES_LOGGING_STATUS", "AUDIT_SERVER_IDLE_SECONDS", "AUDIT_POSTGRES_BIN"),
)
CONTRACT_COMMANDS = (
    *CONTRACT_OPTIONS,
    *("run", "log", "shell-hook", "import", "init-db", "sync", "dev", "demo", "stop-server"),
    *("alerts", "alerts list", "alerts ack", "alerts mute", "alerts unmute", "alerts test"),
    *("stats", "show", "search", "diff", "open", "site", "completion"),
    *("templates", "templates list", "templates show", "templates check"),
)


def test_what_was_promised_is_there() -> None:
    assert {name for name in CONTRACT_VARIABLES if f"| `{name}` |" not in section("Configuration")} == set()
    assert {name for name, _ in commands(cli)} == set(CONTRACT_COMMANDS)
    fields = {**json.loads(only_block("json").code)}
    documented = "timestamp operation_id tool_name operation user git_branch git_commit parameters results"
    assert {*documented.split(), "duration_seconds", "note"} <= set(fields)


def test_links_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", PROSE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", PROSE)) <= anchors
    assert len(headings) == len(set(headings))
