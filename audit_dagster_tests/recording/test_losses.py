"""An operation that cannot be recorded is counted, and its tool does not notice: real processes in broken worlds."""

from __future__ import annotations

import fcntl
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from audit_dagster.audit_service import AuditService
from audit_dagster.recording import losses
from audit_dagster.settings import APP_NAME, Settings

IS_ROOT = os.geteuid() == 0
OWN_MOUNTS = ("unshare", "--map-root-user", "--mount")
# Root may write everywhere: that power is taken away. An ordinary user has none.
POWERLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if IS_ROOT else ()
WITHOUT_A_NAME = ("unshare", "--user", "--map-user=54321")
CLI = (sys.executable, "-m", "audit_dagster.cli")

TOOL = """
import os, sys
from audit_dagster import log_custom_operation
print("to stdout: 20 °C", flush=True)
print("to stderr: 20 °C", file=sys.stderr, flush=True)
with log_custom_operation("tool", "work") as logger:
    print("more to stdout", flush=True)
    if "FILL" in os.environ:
        os.system('cat /dev/zero >"$FILL" 2>/dev/null')
    logger.add_result("long", "x" * 8000)
    sys.exit(7)
"""
COMMAND = r"""
printf 'to stdout: 20 °C\n\377\0'
printf 'to stderr: %s\n' {1..2000} >&2
if [ -n "${FILL-}" ]; then cat /dev/zero >"$FILL" 2>/dev/null; fi
exit 7
"""


@dataclass(frozen=True)
class Tool:
    """How a tool is started where it is recorded, and where it is not."""

    recorded: tuple[str, ...]
    plain: tuple[str, ...]


UNRECORDED = ("env", "POSTGRES_LOGGING_STATUS=off", sys.executable, "-c", TOOL)
TOOLS = {
    "in Python": Tool((sys.executable, "-c", TOOL), UNRECORDED),
    "with run": Tool((*CLI, "run", "--", "bash", "-c", COMMAND), ("bash", "-c", COMMAND)),
}
tools = pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)


@dataclass(frozen=True)
class Outcome:
    """What the tool did in a world, and what the status shows there afterwards."""

    code: int
    stdout: bytes
    stderr: bytes
    status: dict[str, str]


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine's user has lost is not counted."""
    for variable, name in (("XDG_RUNTIME_DIR", "run"), ("TMPDIR", "tmp")):
        (tmp_path / name).mkdir(mode=0o700)
        monkeypatch.setenv(variable, str(tmp_path / name))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder, with nothing of ours set but that."""
    others = ("POSTGRES_", "AUDIT_", "XDG_CONFIG_", "XDG_DATA_", "XDG_STATE_")
    for name in [name for name in os.environ if name.startswith(others)]:
        monkeypatch.delenv(name)
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def require(power: tuple[str, ...]) -> None:
    if power and subprocess.run([*power, "true"], check=False, capture_output=True).returncode:
        pytest.skip(f"this machine does not allow `{' '.join(power)}`")


def in_world(power: tuple[str, ...], setup: str, command: tuple[str, ...], out: Path) -> Outcome:
    """Run a command after `setup`, which is bash, with that power; then ask for the status."""
    require(power)
    out.mkdir()
    script = f"""
        set -e
        {setup}
        set +e
        "$@" >"$OUT/stdout" 2>"$OUT/stderr"; echo $? >"$OUT/code"
        {shlex.join(CLI)} postgres-logging-status >"$OUT/status"
    """
    words = [*power, "bash", "-c", script, "bash", *command]
    done = subprocess.run(words, env={**os.environ, "OUT": str(out)}, check=False, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), done
    shown = (out / "status").read_text("utf-8").splitlines()
    return Outcome(
        code=int((out / "code").read_text()),
        stdout=(out / "stdout").read_bytes(),
        stderr=(out / "stderr").read_bytes(),
        status={label: value.strip() for label, _, value in (line.partition(":") for line in shown)},
    )


@cache
def plain(tool: Tool) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(tool.plain, check=False, capture_output=True)


def check_unchanged(tool: Tool, found: Outcome, told: bytes) -> None:
    """Exit code and both streams are the tool's, to the byte, but for one line of ours on stderr."""
    assert found.code == plain(tool).returncode == 7
    assert found.stdout == plain(tool).stdout
    (ours,) = [line for line in found.stderr.splitlines(keepends=True) if line.startswith(b"audit-dagster: ")]
    assert told in ours
    assert found.stderr.replace(ours, b"") == plain(tool).stderr


def one_loss(status: dict[str, str]) -> bool:
    number, _, last = status["Lost"].partition(", the last at ")
    return number == "1" and datetime.now(UTC) - datetime.fromisoformat(last.replace(" UTC", "Z")) < timedelta(
        minutes=1
    )


WORLDS = {
    "a full disk": (OWN_MOUNTS, "mount -t tmpfs -o size=64k tmpfs ~; cat /dev/zero >~/fill 2>/dev/null || true"),
    "a disk without inodes": (OWN_MOUNTS, "mount -t tmpfs -o nr_inodes=1 tmpfs ~"),
    "a read-only disk": (OWN_MOUNTS, "mount -t tmpfs -o ro tmpfs ~"),
    "a read-only HOME": (POWERLESS, "chmod 0555 ~"),
    "a HOME that is not there": (POWERLESS, 'chmod 0555 ~; export HOME="$HOME/missing"'),
    "no HOME": (WITHOUT_A_NAME, "unset HOME"),
    "an unwritable spool": (POWERLESS, "mkdir ~/spool; chmod 0555 ~/spool; export AUDIT_SPOOL_DIR=~/spool"),
    "a file as the spool": ((), "touch ~/spool; export AUDIT_SPOOL_DIR=~/spool"),
    "a broken settings file": ((), "export AUDIT_STATE_DIR=~; echo { >~/settings.json"),
    "a switch that is none": ((), "export POSTGRES_LOGGING_STATUS=maybe"),
}


@tools
@pytest.mark.parametrize(("power", "setup"), WORLDS.values(), ids=WORLDS)
def test_a_loss_is_counted_and_changes_nothing(
    home: Path, tmp_path: Path, power: tuple[str, ...], setup: str, tool: Tool
) -> None:
    found = in_world(power, setup, tool.recorded, tmp_path / "out")
    check_unchanged(tool, found, b"this operation is not recorded")
    assert one_loss(found.status)
    assert not list((tmp_path / "work").iterdir())


@tools
@pytest.mark.parametrize("setting", ["AUDIT_TIMEZONE=nonsense", "POSTGRES_PORT=5432/tcp", "AUDIT_DAILY_AT=noon"])
@pytest.mark.parametrize("how", ["export '{}'", "echo '{}' >.env"])
def test_a_wrong_setting_loses_nothing(home: Path, tmp_path: Path, setting: str, how: str, tool: Tool) -> None:
    """A tool's own `.env` may have the names that are ours."""
    found = in_world((), how.format(setting), tool.recorded, tmp_path / "out")
    check_unchanged(tool, found, b"operations wait in the spool until this is mended: ")
    assert setting.partition("=")[0].encode() in found.stderr
    assert (b".env)" in found.stderr) == ("env" in how.partition(" ")[2])
    assert found.status["Lost"] == "0"
    assert found.status["Waiting"] == "1"


@tools
def test_a_disk_that_fills_while_the_tool_runs(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: Tool
) -> None:
    """The beginning is there and the end does not fit: the row tells how it ended, and that something is missing."""
    disk = tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setenv("AUDIT_SPOOL_DIR", str(disk / "spool"))
    setup = f"mount -t tmpfs -o size=64k tmpfs '{disk}'; export FILL='{disk}/fill'"
    then_store = f'"$@"; code=$?; {shlex.join(CLI)} sync >/dev/null; exit $code'
    found = in_world(OWN_MOUNTS, setup, ("bash", "-c", then_store, "bash", *tool.recorded), tmp_path / "out")
    check_unchanged(tool, found, b"the end of this operation is not recorded")
    assert one_loss(found.status)
    assert found.status["Waiting"] == "0"
    (entry,) = AuditService().recent_entries()
    assert not entry.success
    assert entry.duration_seconds is not None
    assert entry.context["incomplete"]


# ---- The counter itself ----


@pytest.fixture
def places(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that are tried, but for the last one, which is the machine's. None of them is there yet."""
    monkeypatch.setenv("AUDIT_SPOOL_DIR", str(tmp_path / "spool"))
    return [tmp_path / "spool", tmp_path / "run" / APP_NAME, tmp_path / "tmp" / f"{APP_NAME}-{os.geteuid()}"]


def counted(places: list[Path]) -> list[int]:
    return [(place / "lost").stat().st_size if (place / "lost").exists() else 0 for place in places]


def test_the_first_place_that_works_is_used_and_all_are_summed(
    places: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.load()
    assert losses.total(settings) == (0, None)
    assert not any(place.exists() for place in places)
    losses.count(settings)
    losses.count(settings)
    losses.count(None)  # settings that cannot be read name no spool
    assert counted(places) == [2, 1, 0]
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    losses.count(None)
    assert counted(places) == [2, 1, 1]
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(places[1].parent))
    found = losses.total(settings)
    assert found.count == 4
    assert found.last is not None
    assert abs(datetime.now(UTC) - found.last) < timedelta(minutes=1)
    for place in places:
        assert place.stat().st_mode & 0o777 == 0o700
        assert (place / "lost").stat().st_mode & 0o777 == 0o600
        assert (place / "lost").stat().st_blocks == 0


def test_a_folder_that_has_two_names_counts_once(places: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(places[2]))
    monkeypatch.setenv("AUDIT_SPOOL_DIR", str(places[2] / APP_NAME))
    places[2].mkdir(mode=0o700)
    losses.count(Settings.load())
    assert losses.total(Settings.load()).count == 1


HOSTILE = {
    "a link to a folder": 'ln -s "$OTHER" "$PLACE"',
    "a link to nowhere": 'ln -s "$OTHER/missing" "$PLACE"',
    "a file": 'echo 12345 >"$PLACE"',
    "a link to a file": 'mkdir "$PLACE"; ln -s "$OTHER/lost" "$PLACE/lost"',
    "a link to no file": 'mkdir "$PLACE"; ln -s "$OTHER/missing" "$PLACE/lost"',
    "a FIFO": 'mkdir "$PLACE"; mkfifo "$PLACE/lost"',
    "a folder inside": 'mkdir -p "$PLACE/lost"',
    "a stranger's folder": 'mkdir "$PLACE"; echo 12345 >"$PLACE/lost"; chown 54321 "$PLACE"',
    "a stranger's file": 'mkdir "$PLACE"; echo 12345 >"$PLACE/lost"; chown 54321 "$PLACE/lost"',
}


@pytest.mark.parametrize("put", HOSTILE.values(), ids=HOSTILE)
def test_what_others_put_there_is_neither_followed_nor_counted(places: list[Path], tmp_path: Path, put: str) -> None:
    if "chown" in put and not IS_ROOT:
        pytest.skip("only root can make another user's file")
    other = tmp_path / "other"
    other.mkdir()
    (other / "lost").write_bytes(b"12345")
    subprocess.run(["bash", "-ec", put], env={**os.environ, "PLACE": str(places[1]), "OTHER": str(other)}, check=True)
    losses.count(None)
    assert losses.total(None).count == 1
    assert counted(places[2:]) == [1]
    assert {path.name: path.read_bytes() for path in other.iterdir()} == {"lost": b"12345"}


def test_nobody_waits_for_a_lock(places: list[Path]) -> None:
    losses.count(None)
    with (places[1] / "lost").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        losses.count(None)
    assert counted(places) == [0, 1, 1]


def test_none_is_forgotten_in_a_crowd(places: list[Path]) -> None:
    code = "from audit_dagster.recording import losses\nfor _ in range(200): losses.count(None)"
    crowd = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [one.wait() for one in crowd] == [0] * 4
    assert losses.total(None).count == 800


@pytest.mark.parametrize(("options", "expected"), [("rw", "1"), ("ro", "0")])
def test_the_last_place_is_in_memory_and_after_that_nothing_is_raised(
    home: Path, monkeypatch: pytest.MonkeyPatch, options: str, expected: str
) -> None:
    require(OWN_MOUNTS)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/dev/null")
    monkeypatch.setenv("TMPDIR", "/dev/null")
    code = "from audit_dagster.recording import losses; losses.count(None); print(losses.total(None).count)"
    script = f'mount -t tmpfs -o {options} tmpfs /dev/shm; exec "$@"'
    command = [*OWN_MOUNTS, "bash", "-c", script, "bash", sys.executable, "-c", code]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == f"{expected}\n"


def test_who_loses_nothing_does_not_load_it(settings: Settings) -> None:
    code = """if True:
        import sys
        from audit_dagster.audit_service import log_custom_operation
        with log_custom_operation("tool", "work"):
            pass
        print("audit_dagster.recording.losses" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
    assert losses.total(settings).count == 0
