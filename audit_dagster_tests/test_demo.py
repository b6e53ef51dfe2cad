"""The demo, as people run it: each test of this module and of daemons/test_dev looks at one demo, made once."""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from audit_dagster_tests.pictures import PROGRAM, browser, take_pages, take_terminal

OUTPUTS = ("data", "figures")
TAMPERED = """
import sys
from pathlib import Path
from audit_dagster.demo import show

record = show._record

def record_and_tamper(station, *others):
    failed = record(station, *others)
    with (station / "data" / "turf.csv").open("a") as file:
        file.write("one more line\\n")
    return failed

show._record = record_and_tamper
sys.orig_argv = [sys.executable, "-m", "audit_dagster.cli", "demo"]  # a script leaves out the audit's own commands
sys.exit(show.run_demo(Path(sys.argv[1])))
"""


class Demo(NamedTuple):
    folder: Path
    said: str

    def environment(self) -> dict[str, str]:
        """What `make dev` sets."""
        places = {"AUDIT_STATE_DIR": self.folder / "state", "AUDIT_REPORTS_DIR": self.folder / "reports"}
        return clean_environment() | {name: str(path) for name, path in places.items()}


@functools.cache
def made_once() -> Demo:
    """In a path with a space and quotes. Kept until this process ends."""
    folder = open_folder() / 'it\'s a "demo"'
    done = run_demo(folder, [*PROGRAM, "demo", "--directory", str(folder)])
    assert (done.returncode, done.stderr) == (0, ""), done
    return Demo(folder, done.stdout)


@pytest.fixture
def demo() -> Demo:
    return made_once()


def open_folder() -> Path:
    """A new one that every user can enter: as root PostgreSQL runs as nobody."""
    holder = tempfile.TemporaryDirectory(prefix="audit-demo-")
    _holders.append(holder)  # the folder goes when the holder does
    folder = Path(os.path.realpath(holder.name))
    folder.chmod(0o755)
    return folder


_holders: list[tempfile.TemporaryDirectory[str]] = []


def clean_environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("POSTGRES_", "AUDIT_", "DAGSTER_"))
    }


def run_demo(folder: Path, command: list[str], **others: str) -> subprocess.CompletedProcess[str]:
    environment = {**clean_environment(), **others}
    return subprocess.run(
        command, cwd=folder.parent, env=environment, capture_output=True, text=True, timeout=180, check=False
    )


def processes(folder: Path, patience: float = 2) -> list[str]:
    """The command lines of those that name the folder there or in their environment, or that work in it."""
    deadline = time.monotonic() + patience
    while (found := [*_processes(folder)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _processes(folder: Path) -> list[str]:
    name = os.fsencode(folder)
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        told = b""
        for read in ("cmdline", "environ", "cwd"):
            try:
                told += os.fsencode((process / read).readlink()) if read == "cwd" else (process / read).read_bytes()
            except OSError:
                continue
        if name in told and process.name != str(os.getpid()):
            found.append(f"{process.name}: {told[:400]!r}")
    return found


def outputs(repository: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(repository)): path.read_bytes()
        for name in OUTPUTS
        for path in (repository / name).rglob("*")
        if path.is_file()
    }


def test_says_where_everything_is(demo: Demo) -> None:
    named = [
        line.split(":", 1)[1].strip() for line in demo.said.splitlines() if f": {demo.folder}" in " ".join(line.split())
    ]
    assert len(named) == 7
    assert all(Path(path).exists() for path in named)
    assert "21 operations, 6 failed" in demo.said
    assert [path for path in demo.folder.glob("reports/*/*") if not (path.is_dir() or path.stat().st_size)] == []


def test_runs_again_byte_for_byte(demo: Demo) -> None:
    station = outputs(demo.folder / "station")
    assert len(station) == 14
    assert outputs(demo.folder / "clone") == station


def test_script_is_sound(demo: Demo) -> None:
    shellcheck = shutil.which("shellcheck", path=sysconfig.get_path("scripts")) or "shellcheck"
    done = subprocess.run(
        [shellcheck, "-S", "style", demo.folder / "reproduce.sh"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_leaves_no_process(demo: Demo) -> None:
    assert processes(demo.folder) == []


def test_in_the_same_folder_again_with_a_file_that_differs(demo: Demo) -> None:
    (demo.folder / "reports" / "left.txt").write_text("of an earlier demo")
    done = run_demo(demo.folder, [sys.executable, "-c", TAMPERED, str(demo.folder)])
    assert done.returncode == 1, done
    assert "13 of 14 output files the same" in done.stdout
    assert "differs: data/turf.csv" in done.stdout
    assert not (demo.folder / "reports" / "left.txt").exists()
    assert processes(demo.folder) == []


def test_database_of_a_nearby_env_file_is_not_touched() -> None:
    folder = open_folder()
    (folder / ".env").write_text("POSTGRES_HOST=db.example.org\n")
    code = "from pathlib import Path; from audit_dagster.demo.show import _fresh; print(_fresh(Path('demo')).postgres)"
    done = run_demo(folder / "demo", [sys.executable, "-c", code])
    assert done.stdout == "None\n", done


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: the other tests ran it as an ordinary user")
def test_as_an_ordinary_user() -> None:
    reached = subprocess.run(
        ["runuser", "-u", "nobody", "--", sys.executable, "-c", ""], check=False, stderr=subprocess.DEVNULL
    )
    if reached.returncode:
        pytest.skip(f"an ordinary user cannot run {sys.executable} -> {Path(sys.executable).resolve()}")
    try:
        account = pwd.getpwnam("trial")
    except KeyError:
        subprocess.run(["useradd", "--no-create-home", "trial"], check=True)
        account = pwd.getpwnam("trial")
    folder = open_folder()
    os.chown(folder, account.pw_uid, account.pw_gid)
    command = [*PROGRAM, "demo", "--directory", str(folder / "demo")]
    done = run_demo(folder / "demo", ["runuser", "-u", "trial", "--", *command], HOME=str(folder))
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "14 of 14 output files the same" in done.stdout
    assert processes(folder) == []


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium on PATH")
def test_its_pages_and_the_terminal_are_worth_a_picture(demo: Demo, tmp_path: Path) -> None:
    """The README's, where AUDIT_PICTURES names its folder."""
    folder = Path(os.environ.get("AUDIT_PICTURES", tmp_path))
    with browser() as page:
        taken = take_pages(page, demo.folder / "reports", folder)
        take_terminal(page, folder / "terminal.png", ["recent"], demo.environment())
    assert all(20_000 < path.stat().st_size < 200_000 for path in (*taken, folder / "terminal.png"))
