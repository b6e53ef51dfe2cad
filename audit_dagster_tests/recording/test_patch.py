"""The patch of a dirty tree: it makes the very tree elsewhere, holds no secret, and leaves the repository alone."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from audit_dagster.recording import git_state, patch
from audit_dagster.recording.git_state import GitQuestion
from audit_dagster.recording.patch import Patch, PatchError, make_patch
from audit_dagster.recording.redact import Redactor

Git = Callable[..., str]
_EXAMPLES = 30 if hypothesis.settings.default.max_examples < 1000 else 1000  # type: ignore[union-attr]
PRIVATE_KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA7\nabcdefgh+/=\n-----END RSA PRIVATE KEY-----\n"


@pytest.fixture
def repository(tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clean repository with some of everything; it is the working directory."""
    return make_repository(tmp_path / "a: 'repository' \"with\" \\ and \n in it", git, monkeypatch)


def make_repository(folder: Path, git: Git, monkeypatch: pytest.MonkeyPatch, *options: str) -> Path:
    git("init", "--quiet", "--initial-branch=main", *options, folder)
    monkeypatch.chdir(folder)
    Path("text.txt").write_text("".join(f"line {number}\n" for number in range(30)))
    Path("gone.txt").write_text("to be deleted\n")
    Path("binary.dat").write_bytes(bytes(range(256)) * 20)
    Path("script.sh").write_text("echo\n")
    Path("folder").mkdir()
    Path("folder/inner.txt").write_text("inner\n")
    Path("link").symlink_to("text.txt")
    Path(".gitignore").write_text("ignored\n*.log\n")
    git("add", ".")
    git("commit", "--quiet", "--message=first")
    return folder


def make(repository: Path, redactor: Redactor | None = None) -> Patch:
    git_state._seen.clear()
    scratch = repository.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    made = make_patch(GitQuestion(str(repository)).answer(), redactor or Redactor({}), scratch)
    assert list(scratch.iterdir()) == []
    return made


def contents(folder: Path) -> dict[bytes, tuple[int, bytes]]:
    """Of each file: whether it is a link or may run, and its bytes."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if name.parts[0] == ".git" or (path.is_dir() and not path.is_symlink()):
            continue
        mode = path.lstat().st_mode
        kind = stat.S_IFMT(mode) | (mode & stat.S_IXUSR if stat.S_ISREG(mode) else 0)
        found[os.fsencode(name)] = (kind, os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes())
    return found


def everything(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Of each file and folder, git's own included: its mode, time of change and bytes.

    But not when an object or a shared index was last used, which git notes for its own cleaning up.
    """
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        used = path.is_file() and (path.parents[1].name == "objects" or path.name.startswith("sharedindex."))
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path)] = (status.st_mode, 0 if used else status.st_mtime_ns, content)
    return found


def applied(made: Patch, repository: Path, git: Git, *configuration: str) -> Path:
    """A fresh clone at the commit, to which the patch was applied. It has the recorded tree."""
    clone = repository.parent / "clone"
    shutil.rmtree(clone, ignore_errors=True)
    options = [word for setting in configuration for word in ("--config", setting)]
    git("clone", "--quiet", "--no-local", *options, repository, clone)
    git("-C", clone, "checkout", "--quiet", "--detach", git("-C", repository, "rev-parse", "HEAD"))
    (repository.parent / "patch").write_bytes(made.content)
    git("-C", clone, "apply", "--index", "--binary", repository.parent / "patch")
    assert git("-C", clone, "write-tree") == made.tree
    return clone


def true_tree(repository: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> str:
    """What git itself makes of the working tree, in a copy of the repository."""
    copy = repository.parent / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(repository, copy, symlinks=True)
    git("-C", copy, "add", "--all")
    return git("-C", copy, "write-tree")


# ---- Every kind of change ----


def _odd_names(git: Git) -> None:
    names = [
        b"with space",
        b"quote'\"",
        b"new\nline",
        b"tab\t",
        "Übergrün 名前".encode(),
        b"\xff\xfe",
        b"-dash",
        b"a -> b",
    ]
    for number, name in enumerate([*names, b"back\\slash", b"*", b"${x}", b"dir with space/\xe4/deep"]):
        path = Path(os.fsdecode(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n")
    git("add", "--", os.fsdecode(b"\xff\xfe"), "new\nline")
    Path("new\nline").write_text("changed after it was staged\n")


def _staged_and_not(git: Git) -> None:
    Path("text.txt").write_text("staged\n")
    git("add", "text.txt")
    Path("text.txt").write_text("not staged\n")
    Path("staged new").write_text("1\n")
    git("add", "staged new")
    Path("staged new").write_text("2\n")
    Path("staged and gone").write_text("1\n")
    git("add", "staged and gone")
    Path("staged and gone").unlink()
    git("rm", "--quiet", "--cached", "folder/inner.txt")
    git("rm", "--quiet", "gone.txt")
    Path("gone.txt").write_text("it is back\n")
    Path("intended").write_text("later\n")
    git("add", "--intent-to-add", "intended")


def _kinds_change(git: Git) -> None:
    Path("gone.txt").unlink()
    Path("gone.txt").mkdir()
    Path("gone.txt/now.txt").write_text("a folder\n")
    shutil.rmtree("folder")
    Path("folder").write_text("a file\n")
    Path("link").unlink()
    Path("link").write_text("no link\n")
    Path("binary.dat").unlink()
    Path("binary.dat").symlink_to("text.txt")


def _folder_becomes_link(git: Git) -> None:
    Path("folder").rename("moved")
    Path("folder").symlink_to("moved")


def _conflict(git: Git) -> None:
    git("checkout", "--quiet", "-b", "side")
    Path("text.txt").write_text("theirs\n")
    git("rm", "--quiet", "gone.txt")
    git("commit", "--quiet", "--all", "--message=side")
    git("checkout", "--quiet", "main")
    Path("text.txt").write_text("ours\n")
    Path("gone.txt").write_text("changed here\n")
    git("commit", "--quiet", "--all", "--message=main")
    with pytest.raises(subprocess.CalledProcessError):
        git("merge", "side")
    Path("script.sh").write_text("and more\n")


def _ignored_once(git: Git) -> None:
    """A file that is no longer tracked, and ignored, is not in the tree."""
    git("rm", "--quiet", "--cached", "gone.txt")
    Path(".gitignore").write_text("gone.txt\nignored\n")
    Path("ignored").write_text("not there\n")


def _many_small(git: Git) -> None:
    for number in range(500):
        Path(f"many/{number % 7}").mkdir(parents=True, exist_ok=True)
        Path(f"many/{number % 7}/{number}").write_text(f"{number}\n")


CHANGES: dict[str, Callable[[Git], object]] = {
    "modified": lambda _: Path("text.txt").write_text("changed\n"),
    "no newline at the end": lambda _: Path("text.txt").write_text("no end"),
    "added": lambda _: Path("new.txt").write_text("new\n"),
    "deleted": lambda _: Path("gone.txt").unlink(),
    "everything deleted": lambda git: git("rm", "--quiet", "-r", "."),
    "binary changed": lambda _: Path("binary.dat").write_bytes(bytes(reversed(range(256))) * 21),
    "binary new": lambda _: Path("new.dat").write_bytes(random.Random(1).randbytes(100_000)),  # noqa: S311
    "binary deleted": lambda _: Path("binary.dat").unlink(),
    "mode": lambda _: Path("script.sh").chmod(0o755),
    "symlinks": lambda _: (Path("new link").symlink_to("nowhere/\n at all"), Path("link").unlink()),
    "empty files": lambda _: (Path("empty").touch(), Path("text.txt").write_text("")),
    "odd names": _odd_names,
    "renamed": lambda _: Path("text.txt").rename("renamed.txt"),
    "renamed and staged": lambda git: git("mv", "folder", "elsewhere"),
    "staged and not": _staged_and_not,
    "kinds change": _kinds_change,
    "a folder becomes a link": _folder_becomes_link,
    "a merge that was not finished": _conflict,
    "ignored once": _ignored_once,
    "many": _many_small,
    "like a patch": lambda _: Path("text.txt").write_text("diff --git a/x b/x\nGIT binary patch\nliteral 0\n\n"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_elsewhere_it_makes_the_very_tree(
    repository: Path, git: Git, monkeypatch: pytest.MonkeyPatch, change: Callable[[Git], object]
) -> None:
    change(git)
    before = everything(repository)
    made = make(repository)
    assert everything(repository) == before, "the index, the objects, the tree and their times"
    assert made.exact
    assert made.left_out == ()
    assert made.tree == true_tree(repository, git, monkeypatch)
    clone = applied(made, repository, git)
    ignored = {b"ignored", b"gone.txt"} if change is _ignored_once else set[bytes]()
    assert contents(clone) == {name: file for name, file in contents(repository).items() if name not in ignored}


@pytest.mark.parametrize("autocrlf", ["true", "input", "false"])
def test_line_ends(repository: Path, git: Git, monkeypatch: pytest.MonkeyPatch, autocrlf: str) -> None:
    Path(".gitattributes").write_text("*.crlf eol=crlf\n*.raw -text\n")
    git("add", ".")
    git("commit", "--quiet", "--message=attributes")
    git("config", "core.autocrlf", autocrlf)
    Path("x.crlf").write_bytes(b"one\r\ntwo\r\n")
    Path("x.raw").write_bytes(b"one\r\ntwo\n")
    Path("folder/inner.txt").write_bytes(b"inner\r\nmore\r\n")
    made = make(repository)
    assert made.exact
    assert made.tree == true_tree(repository, git, monkeypatch)
    clone = applied(made, repository, git, f"core.autocrlf={autocrlf}")
    if autocrlf != "input":  # which takes away what checking out does not give back
        for name in ("x.crlf", "x.raw", "folder/inner.txt"):
            assert (clone / name).read_bytes() == Path(name).read_bytes()


CONFIGURATIONS = {
    "diff.noprefix": "true",
    "diff.mnemonicPrefix": "true",
    "diff.context": "0",
    "diff.renames": "copies",
    "diff.algorithm": "patience",
    "diff.submodule": "log",
    "diff.ignoreSubmodules": "all",
    "diff.suppressBlankEmpty": "true",
    "diff.relative": "true",
    "diff.orderFile": "order",
    "diff.wordRegex": ".",
    "color.ui": "always",
    "color.diff": "always",
    "diff.words.textconv": "wc -w",
    "diff.words.binary": "true",
    "core.splitIndex": "true",
    "core.untrackedCache": "true",
    "core.quotePath": "true",
    "core.abbrev": "5",
    "status.short": "true",
    "status.branch": "false",
    "status.renames": "copies",
    "status.relativePaths": "true",
    "status.showStash": "true",
    "status.aheadBehind": "false",
    "index.version": "4",
}


def test_no_configuration_changes_it(
    repository: Path, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".gitattributes").write_text("*.txt diff=words\n")
    for change in ("modified", "renamed and staged", "binary changed"):
        CHANGES[change](git)
    Path("x.txt").write_text("one\n")
    git("stash", "push", "--quiet", "--", "binary.dat")
    CHANGES["binary changed"](git)
    plain = make(repository)
    Path("order").unlink(missing_ok=True)
    (repository / ".git" / "info" / "exclude").write_text("order\n")
    Path("order").write_text("x.txt\n")
    for key, value in CONFIGURATIONS.items():
        git("config", key, value)
    git("update-index", "--split-index")
    monkeypatch.setenv("GIT_DIFF_OPTS", "--unified=0")
    before = everything(repository)
    made = make(repository)
    assert everything(repository) == before
    assert made.tree == plain.tree == true_tree(repository, git, monkeypatch)
    assert made.exact
    monkeypatch.delenv("GIT_DIFF_OPTS")
    applied(made, repository, git)


def test_a_change_in_the_moment_in_which_the_index_was_written(repository: Path, git: Git) -> None:
    """Nothing but the content tells: size and times are the same."""
    git("config", "core.trustctime", "false")
    an_hour_ago = time.time_ns() - 3600 * 10**9
    os.utime("text.txt", ns=(an_hour_ago, an_hour_ago))
    git("update-index", "--refresh")
    Path("text.txt").write_text(Path("text.txt").read_text().replace("line 3", "LINE 3"))
    for path in ("text.txt", ".git/index"):
        os.utime(path, ns=(an_hour_ago, an_hour_ago))
    made = make(repository)
    assert b"+LINE 3" in made.content
    applied(made, repository, git)


def test_in_a_linked_worktree_with_sha256(tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    make_repository(tmp_path / "main", git, monkeypatch, "--object-format=sha256")
    git("worktree", "add", "--quiet", "--detach", tmp_path / "linked")
    monkeypatch.chdir(tmp_path / "linked")
    CHANGES["staged and not"](git)
    CHANGES["binary changed"](git)
    Path("large").write_bytes(b"x" * (patch.LARGEST_FILE + 1))
    git("add", "large")
    before = everything(tmp_path)
    made = make(tmp_path / "linked")
    (tmp_path / "scratch").rmdir()
    assert everything(tmp_path) == before
    assert len(made.tree) == 64
    assert made.left_out == ("large: 1,048,577 bytes",)
    applied(made, tmp_path / "linked", git)


def test_submodules(repository: Path, git: Git, tmp_path: Path) -> None:
    """Of a submodule its commit is kept; what was changed inside is named."""
    git("init", "--quiet", tmp_path / "library")
    (tmp_path / "library" / "f").write_text("1\n")
    git("-C", tmp_path / "library", "add", ".")
    git("-C", tmp_path / "library", "commit", "--quiet", "--message=1")
    for name in ("same", "moved", "touched"):
        git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", tmp_path / "library", name)
    git("commit", "--quiet", "--message=submodules")
    git("-C", "moved", "commit", "--quiet", "--allow-empty", "--message=2")
    made = make(repository)
    assert made.exact
    assert git("-C", "moved", "rev-parse", "HEAD").encode() in made.content
    Path("touched/f").write_text("2\n")
    Path("text.txt").write_text("changed\n")
    made = make(repository)
    assert (made.exact, made.left_out) == (False, ("touched: a submodule with changes of its own",))
    assert b"changed" in made.content
    applied(made, repository, git)


# ---- What is left out ----


def test_what_is_too_large_or_too_much_is_named(repository: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch, "LARGEST_FILE", 1000)
    monkeypatch.setattr(patch, "MOST_BYTES", 2500)
    Path("a large").write_bytes(b"x" * 1001)
    Path("staged large").write_bytes(b"y" * 1001)
    git("add", "staged large")
    for name in "bcde":
        Path(name).write_bytes(b"z" * 900)
    Path("text.txt").write_text("w" * 1001)
    made = make(repository)
    assert not made.exact
    assert sorted(made.left_out) == [
        "a large: 1,001 bytes",
        "d: 900 bytes",
        "e: 900 bytes",
        "staged large: 1,001 bytes",
        "text.txt: 1,001 bytes",
    ]
    clone = applied(made, repository, git)
    assert (clone / "text.txt").read_text().startswith("line 0\n")
    assert {path.name for path in clone.iterdir()} >= {"b", "c"}
    assert not {path.name for path in clone.iterdir()} & {"a large", "staged large", "d", "e"}


def test_more_files_than_fit(repository: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch, "_MOST_FILES", 100)
    CHANGES["many"](git)
    made = make(repository)
    assert not made.exact
    assert len(made.left_out) == 50
    assert made.left_out[0].endswith(": there are more than 100 files")
    clone = applied(made, repository, git)
    assert len(list(clone.rglob("many/*/*"))) == 100


def test_a_patch_that_is_too_large_is_none(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch, "LARGEST_PATCH", 100)
    Path("text.txt").write_text("x" * 200)
    with pytest.raises(PatchError, match="more than 100"):
        make(repository)


SECRET_FILES = (".env", ".env.local", "server.pem", "deploy.KEY", "id_rsa", "id_ed25519.old", "credentials.json")


def test_what_is_named_like_a_secret_is_left_out(repository: Path, git: Git) -> None:
    Path("conf").mkdir()
    for name in SECRET_FILES:
        Path("conf", name).write_text("planted")
    git("add", "conf/.env")
    Path("environment.txt").write_text("kept\n")
    made = make(repository)
    assert sorted(made.left_out) == sorted(f"conf/{name}: named like a secret" for name in SECRET_FILES)
    assert b"planted" not in made.content
    assert [path.name for path in applied(made, repository, git).glob("conf/*")] == []


def test_what_a_committed_file_of_secrets_says_now_is_left_out(repository: Path, git: Git) -> None:
    names = [".env", ".pgpass", "db_password.txt", "gone.env", "removed.env"]
    for name in names:
        Path(name).write_text("planted\n")
    git("add", ".")
    git("commit", "--quiet", "--message=careless")
    for name in names[:3]:
        Path(name).write_text("planted anew\n")
    git("add", ".pgpass")
    Path("gone.env").unlink()
    git("rm", "--quiet", "removed.env")
    Path("text.txt").write_text("changed\n")
    made = make(repository)
    assert sorted(made.left_out) == sorted(f"{name}: named like a secret" for name in names)
    assert b"planted" not in made.content
    assert (applied(made, repository, git) / "text.txt").read_text() == "changed\n"


@pytest.mark.parametrize("name", [".aws/credentials", "db_password", "token.csv"])
def test_why_a_file_is_left_out_is_no_secret(repository: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".aws").mkdir()
    Path(name).write_text("x" * 200)
    monkeypatch.setattr(patch, "LARGEST_FILE", 100)
    (left_out,) = make(repository).left_out
    assert left_out.startswith(f"{name}: ")
    assert Redactor({}).value({"left_out": [left_out]}) == {"left_out": [left_out]}


def test_secrets_in_texts_are_replaced_and_the_rest_still_applies(repository: Path, git: Git) -> None:
    Path("config.ini").write_text("[db]\nhost = db\npassword = planted-one\nport = 5432\n")
    Path("old key.txt").write_text(PRIVATE_KEY)
    git("add", ".")
    git("commit", "--quiet", "--message=careless")
    Path("config.ini").write_text("[db]\nhost = db2\npassword = planted-two\nport = 5433\n")
    Path("old key.txt").write_text("no key any more\n")
    Path("notes.txt").write_text(f"before\n{PRIVATE_KEY}after\nplanted-three is known\n")
    Path("cut.txt").write_text(f"{PRIVATE_KEY[:60]}\nafter, too; really\n")
    Path("compose.yml").write_text("services:\n  password:\n    from: vault\n")
    Path("text.txt").write_text("changed\n")
    made = make(repository, Redactor({"LAB_TOKEN": "planted-three"}))
    assert not made.exact
    assert made.left_out == ()
    assert b"planted" not in made.content
    assert b"MIIE" not in made.content
    assert b"${SECRET:LAB_TOKEN} is known" in made.content
    (repository.parent / "patch").write_bytes(made.content)
    stat_lines = git("apply", "--numstat", repository.parent / "patch").splitlines()
    assert sorted(stat_lines) == [
        "1\t30\ttext.txt",
        "1\t4\told key.txt",
        "3\t0\tcompose.yml",
        "3\t3\tconfig.ini",
        "4\t0\tcut.txt",
        "7\t0\tnotes.txt",
    ]


def test_code_that_speaks_of_secrets_stays_exact(repository: Path, git: Git) -> None:
    Path("client.py").write_text(
        "token = ask()\nsecret: str | None = None\nconnect(password=args.password, api_key=key)\nTOKEN = Token\n"
    )
    Path("client.R").write_text("token <- ask()\npassword = readline()\n")
    made = make(repository)
    assert made.exact
    applied(made, repository, git)
    Path("client.py").write_text("password = 'planted'\n")
    assert b"planted" not in make(repository).content


@pytest.mark.parametrize("how", ["untracked", "staged", "changed", "deleted", "was there before", "utf-16", "-diff"])
def test_a_secret_in_what_git_shows_as_binary(repository: Path, git: Git, how: str) -> None:
    secret = b"token=planted-in-a-binary-file\n"
    if how == "-diff":
        Path(".gitattributes").write_text("*.dat -diff\n")
    if how in {"deleted", "was there before"}:
        Path("hiding.dat").write_bytes(b"\0\1" + secret)
        git("add", ".")
        git("commit", "--quiet", "--message=careless")
    text = secret if how == "-diff" else secret.decode().encode("utf-16") if how == "utf-16" else b"\0\1" + secret
    name = "binary.dat" if how == "changed" else "hiding.dat"
    if how == "deleted":
        Path(name).unlink()
    else:
        Path(name).write_bytes(b"\0\1" if how == "was there before" else text)
    if how == "staged":
        git("add", ".")
    Path("other.dat").write_bytes(b"\0harmless")
    made = make(repository)
    assert (made.exact, made.left_out) == (False, (f"{name}: a secret in a binary file",))
    assert name.encode() not in made.content
    clone = applied(made, repository, git)
    assert (clone / "other.dat").read_bytes() == b"\0harmless"


def test_binary_content_is_not_taken_for_text(repository: Path, git: Git) -> None:
    """In the letters that git writes binary content with, anything may stand: `pwd=` as well."""
    Path("noise.dat").write_bytes(b"\0" + random.Random(3).randbytes(300_000))  # noqa: S311
    plain = make(repository)
    header, binary, rest = patch._BINARY.split(os.fsdecode(plain.content))
    assert (header.count("\n"), rest) == (3, "")
    assert len(binary) > 300_000
    accident = Redactor({"TOKEN": binary[1000:1006]})
    assert accident.text(binary) != binary
    assert make(repository, accident) == plain
    assert plain.exact


def test_what_cannot_be_read_is_left_out(repository: Path, git: Git, tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from audit_dagster.recording.git_state import GitQuestion
from audit_dagster.recording.patch import make_patch
from audit_dagster.recording.redact import Redactor
made = make_patch(GitQuestion(sys.argv[1]).answer(), Redactor({}), Path(sys.argv[2]))
print(made.exact, made.left_out, b"changed" in made.content)
"""
    Path("text.txt").write_text("changed\n")
    Path("closed.txt").write_text("x\n")
    Path("closed.txt").chmod(0)
    Path("script.sh").chmod(0)
    Path("closed folder").mkdir()
    Path("closed folder/file").write_text("x")
    Path("closed folder").chmod(0)
    # Root may read everything: that power is taken away. An ordinary user has none.
    powerless = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
    command = [*powerless, sys.executable, "-c", code, repository, tmp_path]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    Path("closed folder").chmod(0o700)
    assert done.stdout == "False ('script.sh: it cannot be read', 'closed.txt: it cannot be read') True\n", done.stderr


def test_what_is_no_file(repository: Path, git: Git) -> None:
    """FIFOs and sockets, and a repository inside the repository."""
    os.mkfifo("fifo")
    Path("gone.txt").unlink()
    os.mkfifo("gone.txt")
    git("init", "--quiet", "nested")
    Path("nested/file").write_text("theirs\n")
    git("-C", "nested", "add", ".")
    git("-C", "nested", "commit", "--quiet", "--message=theirs")
    Path("text.txt").write_text("changed\n")
    made = make(repository)
    assert b"changed" in made.content
    assert b"theirs" not in made.content
    assert not made.exact
    assert "nested/: a repository of its own" in made.left_out
    clone = applied(made, repository, git)
    assert (clone / "text.txt").read_text() == "changed\n"


def test_without_a_commit_there_is_none(tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    git("init", "--quiet", tmp_path / "r")
    monkeypatch.chdir(tmp_path / "r")
    Path("file").touch()
    with pytest.raises(PatchError, match="there is no commit yet"):
        make(tmp_path / "r")


def test_secrets_that_are_known_later_make_another_patch(repository: Path) -> None:
    Path("text.txt").write_text("planted\n")
    scratch = repository.parent / "scratch"
    scratch.mkdir()
    state = GitQuestion(str(repository)).answer()
    assert b"planted" in make_patch(state, Redactor({}), scratch).content
    assert b"planted" not in make_patch(state, Redactor({"TOKEN": "planted"}), scratch).content


def test_two_repositories_are_each_remembered(repository: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool's own code lies in a second one, so that the two are asked for in turn."""
    other = make_repository(repository.parent / "other", git, monkeypatch)
    scratch = repository.parent / "scratch"
    scratch.mkdir()
    states = []
    for folder in (repository, other):
        (folder / "text.txt").write_text("changed\n")
        states.append(GitQuestion(str(folder)).answer())
    first, second = ([make_patch(state, Redactor({}), scratch) for state in states] for _ in range(2))
    assert [id(one) for one in first] == [id(one) for one in second]
    assert first[0] is not first[1]


# ---- Any set of changes ----

NAMES = (
    "text.txt",
    "gone.txt",
    "binary.dat",
    "script.sh",
    "link",
    "folder/inner.txt",
    "new",
    "folder/new",
    "x y/z",
    "é",
)
KINDS = (
    "write",
    "write",
    "binary",
    "empty",
    "delete",
    "link",
    "mode",
    "stage",
    "unstage",
    "rename",
    "append",
    "folder",
)
changes = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(NAMES), st.integers(0, 9)), max_size=12)


def change_one(kind: str, path: Path, number: int, git: Git) -> None:
    """One change, as far as it is possible in the tree as it is."""
    if kind == "stage":
        git("add", "--all")
    elif kind == "unstage":
        git("reset", "--quiet")
    elif kind == "delete":
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    elif kind == "mode":
        path.chmod(0o755 if number % 2 else 0o644)
    elif kind == "rename":
        path.rename(NAMES[number])
    elif kind == "append":
        with path.open("ab") as stream:
            stream.write(b"more\n" * number)
    elif kind == "folder":
        path.mkdir(parents=True)
        (path / "inside").write_text(f"{number}\n")
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if kind == "link":
            path.symlink_to(NAMES[number])
        else:
            path.write_bytes({"write": b"%d\n" % number, "binary": bytes([0, number]) * 50, "empty": b""}[kind])


@hypothesis.settings(
    max_examples=_EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(wanted=changes)
def test_any_set_of_changes(
    repository: Path, git: Git, monkeypatch: pytest.MonkeyPatch, wanted: list[tuple[str, str, int]]
) -> None:
    clean = repository.parent / "clean"
    if not clean.exists():
        shutil.copytree(repository, clean, symlinks=True)
    os.chdir(clean)
    shutil.rmtree(repository)
    shutil.copytree(clean, repository, symlinks=True)
    os.chdir(repository)
    for kind, name, number in wanted:
        try:
            change_one(kind, repository / name, number, git)
        except OSError:
            continue
    made = make(repository)
    assert made.exact
    assert made.tree == true_tree(repository, git, monkeypatch)
    (repository.parent / "patch").write_bytes(made.content)
    monkeypatch.setenv("GIT_INDEX_FILE", str(repository.parent / "index"))
    git("read-tree", "HEAD")
    git("apply", "--cached", "--binary", "--allow-empty", repository.parent / "patch")
    tree = git("write-tree")
    monkeypatch.delenv("GIT_INDEX_FILE")
    assert tree == made.tree
