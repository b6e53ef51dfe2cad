"""Generated scripts under real bash, real git and shellcheck."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from audit_dagster.render import templates_dir
from audit_dagster_tests.reproduction.lab import (
    GENERATED,
    START,
    Repository,
    appends,
    bash,
    check_script,
    is_running,
    make_script,
    names,
    python,
    reproduce,
    run,
    sha256,
    wait_until,
    work,
)

COMMIT = "abc1234def5678abc1234def5678abc1234def56"

CONTRACT = [
    {
        "timestamp": START,
        "tool_name": "sensing-data",
        "operation": "extract",
        "command": None,
        "git_commit_hash": COMMIT,
        "parameters": {"end_date": "2023-01-31", "project": "Winter Turf - v3", "start_date": "2023-01-01"},
        "note": "Monthly analysis for winter conditions",
    },
    {
        "timestamp": START + timedelta(seconds=113),
        "tool_name": "visualization",
        "operation": "create",
        "command": None,
        "git_commit_hash": COMMIT,
        "parameters": {
            "node_id": "LCCMR_01",
            "parameter": "Temperature",
            "file": "./data/Winter_Turf_v3_2023-01-01_to_2023-01-31.csv",
        },
        "note": "Temperature analysis visualization",
    },
]
CONTRACT_LINES = f"""\
#!/bin/bash
# Reproduction script generated on 2023-06-15T16:45:30
# Original execution timespan: 2023-06-01 to 2023-06-01
set -e  # Exit on error
echo "Starting reproduction of RTGS Lab Tools operations..."
# Ensure correct git state
git_checkout {COMMIT}
# Operation 1: sensing-data extract
echo "Executing: sensing-data extract (2023-06-01 14:30:22)"
rtgs sensing-data extract \\
  --project "Winter Turf - v3" \\
  --start-date "2023-01-01" \\
  --end-date "2023-01-31" \\
  --note "Reproduction: Monthly analysis for winter conditions"
git_checkout {COMMIT}
# Operation 2: visualization create
echo "Executing: visualization create (2023-06-01 14:32:15)"
rtgs visualization create \\
  --file "./data/Winter_Turf_v3_2023-01-01_to_2023-01-31.csv" \\
  --parameter "Temperature" \\
  --node-id "LCCMR_01" \\
  --note "Reproduction: Temperature analysis visualization"
echo "Reproduction script completed successfully"
""".splitlines()


ATTACKS = ["touch canary", "$(touch canary)", "`touch canary`", "${x:=$(touch canary)}", "<(touch canary)"]
ATTACKS += ["$((a[$(touch canary)]))", "${a[$(touch canary)]}", "a[$(touch canary)]", "$'\\x60touch canary\\x60'"]
ATTACKS += ["=(touch canary)", "eval touch canary", "!touch canary", "\x60touch canary\x60\n", "%(touch canary)T"]
AROUND_ATTACKS = r"""@ '@' "@" ';@;' ";@;" '·;·@;·' "·;·@·# #·@ ;@ &&·@ |·@ &·@·& )·;·@ }·@ ↵@↵ \r↵@\r \↵@ ↵USAGE↵@
    ↵COMMITS↵@ '·||·@ \';·@·# \";·@·# $'\n@' !@ -@ --flag=@ ~@ {{·'@'·}} {%·raw·%}@ {#·@ ␛[2J@"""
WORDS = r"""- -- -n -e -x·y ' " \ \\ a\ \n\c \0 %s%n * ? [a-z] {a,b} ~ ~root ~/x $ $$ $HOME ${HOME} ! !! !$ # a#b a·b
    ·a··b· if then elif else fi do done case esac time { } [[ x=1 PATH= a[0]=1 exit run main cd eval < > >canary
    2>canary & | ; ;; ( ) <<USAGE ␛]0;x · ↵ ↵↵ é 日本語 🧪"""
UNSEEN = ["", "\t", "\r", "a\rb", "\x01", "\x7f", "\u200b", "\u202eabc", "\ufeff", "\u00a0", "\u2028", "e\u0301"]
QUOTES = ["\u201cq\u201d", "\u2018q\u2019", "'\u2019", "\u201c$\u201d"]


def hostile_strings() -> list[str]:
    """Each once. In the tables above `·` is a space, `↵` a newline, `␛` an escape and `@` an attack."""
    table = str.maketrans({"·": " ", "↵": "\n", "␛": "\x1b"})
    attacks = [around.translate(table).replace("@", attack) for around in AROUND_ATTACKS.split() for attack in ATTACKS]
    return list(
        dict.fromkeys([*attacks, *(word.translate(table) for word in WORDS.split()), *UNSEEN, *QUOTES, "x" * 5000])
    )


HOSTILE = hostile_strings()


class TestForm:
    def test_the_contracts_lines_in_their_order(self) -> None:
        lines = iter(make_script(*CONTRACT).splitlines())
        for expected in CONTRACT_LINES:
            assert expected in lines, expected

    def test_the_commands_stand_before_the_machinery(self) -> None:
        lines = make_script(*CONTRACT).splitlines()
        assert lines.index('echo "Reproduction script completed successfully"') < 60

    def test_what_was_left_out_is_listed_with_reasons(self) -> None:
        script = make_script({}, {"success": False, "error_message": "no\nnetwork", "operation": "fetch"})
        assert "# Left out:\n# - 2023-06-01 14:30:24 lab fetch: it failed: no↵network\n" in script

    def test_times_are_shown_in_the_zone_of_the_generation(self) -> None:
        script = make_script({}, generated=GENERATED.replace(tzinfo=timezone(timedelta(hours=10))))
        assert "# Reproduction script generated on 2023-06-15T16:45:30+10:00" in script
        assert "# Original execution timespan: 2023-06-02 to 2023-06-02" in script
        assert "(2023-06-02 00:30:23)" in script

    def test_an_exact_argv_stays_exact_and_its_note_is_only_shown(self, folder: Path) -> None:
        script = make_script({"command": ["echo", "--note", "x"], "note": "winter"})
        done = bash(script, cwd=folder)
        assert "\nReproduction: winter\n--note x\n" in done.stdout

    def test_every_value_in_the_template_ends_in_a_shell_filter(self) -> None:
        template = (templates_dir() / "reproduction_script.sh.j2").read_text()
        values = re.findall(r"{{(.*?)}}", template, re.DOTALL)
        assert len(values) > 10
        rule = r"\|\s*(?:(?:sh|sh_words|sh_flags?|sh_comment)|map\(\"(?:sh|sh_flag)\"\) \| join\(\" \"\))\s*$"
        assert [value for value in values if not re.search(rule, value)] == [' "  " ', ' "{" ']

    def test_nothing_newer_than_bash_3_2(self) -> None:
        script = make_script(*CONTRACT, add_timing=True)
        newer = (
            r"declare -A|local -n|mapfile|readarray|\$\{\w+(?:,,|\^\^|@[A-Z])|&>>|\|&|wait -[np]|coproc|;;&|%\([^)]*\)T"
            r"|\[-\d+\]|read -N|printf -v \S*\[|\$\{?EPOCHREALTIME\}|\bfg -|\{\w+\}[<>]"
        )
        assert [line for line in script.splitlines() if re.search(newer, line)] == []

    def test_an_array_that_may_be_empty_is_no_unbound_variable_in_bash_3_2(self) -> None:
        """There `"${array[@]}"` of an empty one is an error: so it stands after `+` or after a look at its length."""
        machinery = make_script().split("# ---- From here on")[1]
        always_filled = {"words", "hasher", "decode", "before", "wanted", "parts", "candidates"}
        guarded = {"problems", "query", "untouched", "inputs", "outputs"}  # each behind `((${#name[@]} …))`
        expanded = re.findall(r'(?<!\+)"\$\{(\w+)\[@\]\}"', machinery)
        assert set(expanded) <= always_filled | guarded
        assert {name for name in guarded if f"${{#{name}[@]}}" not in machinery} == set()

    @pytest.mark.parametrize("fields", [[], CONTRACT, [{"success": False}], [{}, *CONTRACT, {"git_dirty": True}]])
    def test_shellcheck(self, fields: list[dict[str, Any]]) -> None:
        check_script(make_script(*fields, add_timing=len(fields) > 1, add_error_handling=len(fields) < 3))

    def test_ten_thousand_steps_take_seconds(self) -> None:
        fields = [{"git_commit_hash": f"{n:040x}", **CONTRACT[0], "timestamp": START} for n in range(10_000)]
        began = time.monotonic()
        script = make_script(*fields)
        assert time.monotonic() - began < 5
        assert script.count("\nrun ") == 10_000
        syntax = run(["bash", "-n"], input=script, timeout=20)
        assert (syntax.returncode, syntax.stderr) == (0, "")


class TestSafety:
    def test_there_are_enough_hostile_strings(self) -> None:
        assert len(HOSTILE) >= 500

    def test_argv_arrives_byte_for_byte(self, folder: Path) -> None:
        dump = python("import json, sys; json.dump(sys.argv[1:], open('argv.json', 'w'))", *HOSTILE)
        script = make_script({"command": dump})
        check_script(script)
        done = bash(script, cwd=folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads((folder / "argv.json").read_text()) == HOSTILE
        assert names(folder) == ["argv.json"]

    def test_every_string_by_itself_in_every_place_of_a_record(self, folder: Path) -> None:
        dump = ["sh", "-c", """printf '%s\\0' "$#" "$@" >>argv""", "sh"]
        places = ("note", "tool_name", "operation", "user_name", "git_branch", "git_commit_hash", "working_directory")
        fields: list[dict[str, Any]] = []
        for text in HOSTILE:
            files = [{"path": f"/nowhere/{text}", "size": 1, "sha256": "a" * 64}]
            context = {"outputs": files, "tool": {"file": f"{text}.py"}}
            fields.append({"command": [*dump, text], **dict.fromkeys(places, text), "context": context})
        fields += [{**own, "success": False, "error_message": own["note"]} for own in fields]
        script = make_script(*fields)
        check_script(script)
        done = bash(script, "--yes", cwd=folder)
        assert done.returncode == 4, done.stderr  # the outputs are missing
        assert (folder / "argv").read_bytes().decode() == "".join(f"1\0{text}\0" for text in HOSTILE)
        assert names(folder) == ["argv"]
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", done.stdout)

    def test_every_string_in_files_and_in_what_git_said(self, lab: Repository, folder: Path) -> None:
        commit = lab.git("rev-parse", "HEAD")
        empty = sha256(b"")
        (lab.path / "in").mkdir()
        fields: list[dict[str, Any]] = []
        for text in HOSTILE:
            root = f"/lab/{text}"
            inputs = []
            if text not in ("", ".", "..") and "/" not in text and "\n" not in text and len(text) < 200:
                (lab.path / "in" / text).write_text("x")
                inputs = [{"path": f"{root}/in/{text}", "size": 1, "sha256": sha256(b"x")}]
            patch = {"sha256": empty, "exact": False, "left_out": {text: text}}
            git = {"root": root, "remote": text, "patch": patch}
            context = {"git": git, "inputs": inputs, "tool": {"git": {"root": text, "commit": text}}}
            dump = ["sh", "-c", """printf '%s\\0' "$#" "$@" >>argv""", "sh", text, f"{root}/x"]
            known = {"git_commit_hash": commit, "git_dirty": True, "working_directory": root}
            fields.append({"command": dump, "context": context, **known})
        script = make_script(*fields, patches={empty: b""})
        check_script(script)
        done = reproduce(script, "--yes", "--keep", f"--repo={lab.path}", cwd=folder)
        assert done.returncode == 0, done.stderr
        tree = work() / "tree"
        arrived = (tree / "argv").read_bytes().decode().split("\0")
        assert arrived[0:-1:3] == ["2"] * len(HOSTILE)
        assert arrived[1:-1:3] == HOSTILE
        assert not [*tree.rglob("canary"), *folder.rglob("canary"), *lab.path.rglob("canary")]

    def test_rebuilt_values_and_notes_arrive_byte_for_byte(self, folder: Path) -> None:
        stub = folder.parent / "bin" / "rtgs"
        stub.parent.mkdir()
        stub.write_text("""#!/bin/sh\nprintf '%s\\0' "$#" "$@" >>argv\n""")
        stub.chmod(0o755)
        script = make_script(*({"command": None, "parameters": {"a_b": t}, "note": t or None} for t in HOSTILE))
        check_script(script)
        done = bash(script, cwd=folder, env={**os.environ, "PATH": f"{stub.parent}:{os.environ['PATH']}"})
        assert (done.returncode, done.stderr) == (0, "")
        expected = [
            ["lab", "step"]
            + ([f"--a-b={text}"] if text.startswith("-") else ["--a-b", text])
            + (["--note", f"Reproduction: {text}"] if text else [])
            for text in HOSTILE
        ]
        seen = (folder / "argv").read_bytes().decode()
        assert seen == "".join(f"{len(words)}\0" + "".join(f"{word}\0" for word in words) for words in expected)
        assert names(folder) == ["argv"]

    @pytest.mark.parametrize("name", ["run", "main", "failed", "restore", "cd", "exit", "if", "x=1", "-x", "[", ""])
    def test_a_program_is_never_a_function_a_builtin_or_a_keyword(self, folder: Path, name: str) -> None:
        stub = folder.parent / "bin" / (name or "unnamed")
        stub.parent.mkdir()
        stub.write_text("#!/bin/sh\necho program\n")
        stub.chmod(0o755)
        script = make_script({"command": [name, "1"]})
        done = bash(script, cwd=folder, env={**os.environ, "PATH": f"{stub.parent}:{os.environ['PATH']}"})
        if name:
            assert "\nprogram\n" in done.stdout
            assert done.stdout.endswith("\nReproduction script completed successfully\n")
        else:
            assert "there is no program '' on PATH" in done.stderr

    def test_lone_surrogates_in_names_do_not_keep_a_script_from_being_written(self) -> None:
        places = ("note", "tool_name", "operation", "user_name", "git_branch", "git_commit_hash", "working_directory")
        script = make_script(dict.fromkeys(places, "a\ud800\0b"), {"success": False, "error_message": "\udcff\0"})
        check_script(script)
        assert "\0" not in script

    @pytest.mark.parametrize("directory", ["a b", "$(touch canary)", "-x", "'q'", "é\n"])
    def test_directories(self, folder: Path, directory: str) -> None:
        (folder / directory).mkdir()
        fields = {"working_directory": f"/lab/{directory}", "context": {"git": {"root": "/lab"}}, "command": ["pwd"]}
        script = make_script(fields)
        check_script(script)
        done = bash(script, cwd=folder)
        assert f"\n{folder}/{directory}\n" in done.stdout
        assert done.returncode == 0
        (folder / directory).rmdir()
        done = bash(script, cwd=folder)
        assert done.returncode == 1
        assert "Operation 1 failed: there is no folder" in done.stderr
        assert names(folder) == []


class TestRuns:
    @pytest.mark.parametrize("fields", [[], [{"success": False, "git_commit_hash": COMMIT}]])
    def test_nothing_to_run(self, folder: Path, fields: list[dict[str, Any]]) -> None:
        done = bash(make_script(*fields), cwd=folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.endswith("There is nothing to run again.\n")

    def test_no_commit_needs_no_git(self, folder: Path) -> None:
        (folder.parent / "bin").mkdir()
        for name in ("true", "awk", "cat", "df", "ls", "mkdir", "mkfifo", "mv", "rm", "rmdir", "sha256sum", "tee"):
            (folder.parent / "bin" / name).symlink_to(shutil.which(name) or f"/bin/{name}")
        bash_path = shutil.which("bash")
        assert bash_path
        script = make_script({}, {})
        environment = {"PATH": str(folder.parent / "bin"), "TMPDIR": os.environ["TMPDIR"]}
        done = run([bash_path, "-s"], input=script, cwd=folder, env=environment)
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_failure_stops_it(self, folder: Path) -> None:
        fields = [{}, {"command": ["bash", "-c", "exit 7"]}, {"command": ["touch", "later"]}]
        done = bash(make_script(*fields), cwd=folder)
        assert done.returncode == 1
        assert done.stderr == "Operation 2 failed with exit code 7\n"
        assert "completed" not in done.stdout
        assert names(folder) == []

    def test_without_error_handling_it_goes_on_and_counts(self, folder: Path) -> None:
        fields = [{"command": ["bash", "-c", f"exit {code}"]} for code in (7, 0, 9)]
        done = bash(make_script(*fields, {"command": ["touch", "later"]}, add_error_handling=False), cwd=folder)
        assert done.returncode == 1
        assert done.stderr.splitlines() == [
            "Operation 1 failed with exit code 7",
            "Operation 3 failed with exit code 9",
            "2 of 4 operations failed",
        ]
        assert names(folder) == ["later"]
        done = bash(make_script({}, add_error_handling=False), cwd=folder)
        assert done.returncode == 0
        assert done.stdout.endswith("Reproduction script completed successfully\n")

    @pytest.mark.parametrize("handling", [True, False])
    def test_timing(self, folder: Path, handling: bool) -> None:
        fields: list[dict[str, Any]] = [{"duration_seconds": 45.7, "command": ["sleep", "1.1"]}, {"command": ["false"]}]
        done = bash(make_script(*fields, add_timing=True, add_error_handling=handling), cwd=folder)
        assert re.search(r"^Operation 1 took [1-9]\.\d{3}s \(recorded: 45\.700s\)$", done.stdout, re.MULTILINE)
        assert re.search(r"^Operation 2 took \d\.\d{3}s \(recorded: unknown\)$", done.stdout, re.MULTILINE)
        assert "took" not in bash(make_script(*fields), cwd=folder).stdout

    def test_a_step_has_no_input_and_no_state_of_another(self, folder: Path) -> None:
        reads = python("import os, sys; print(repr(sys.stdin.read()), os.getcwd())")
        (folder / "sub").mkdir()
        below = {"working_directory": "/lab/sub", "context": {"git": {"root": "/lab"}}}
        done = bash(make_script({"command": reads, **below}, {"command": reads}), cwd=folder, input="secret")
        assert [line for line in done.stdout.splitlines() if line.startswith("'")] == [
            f"'' {folder}/sub",
            f"'' {folder}",
        ]

    def test_a_step_may_ask_at_the_terminal(self, folder: Path) -> None:
        asks = python("print(open('/dev/tty').readline().upper())")
        file = folder / "script.sh"
        file.write_text(make_script({"command": asks}, {"command": ["true"]}))
        terminal = python("import os, pty, sys; sys.exit(pty.spawn(sys.argv[1:]))", "bash", str(file))
        done = run(terminal, input="secret\n", timeout=20)
        assert "SECRET" in done.stdout
        assert "completed successfully" in done.stdout

    def test_from_stdin(self, folder: Path) -> None:
        (folder / "clone").mkdir()
        script = make_script({"command": ["cat"]}, {"command": ["touch", "here"]})
        done = run(["bash", "-s", "--", "--in-place", "--repo", "clone"], input=script, cwd=folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert names(folder / "clone") == ["here"]

    @pytest.mark.parametrize("words", [["--nonsense"], ["x"], ["--repo"], ["--repo", ".", "x"]])
    def test_wrong_usage(self, folder: Path, words: list[str]) -> None:
        done = bash(make_script({"command": ["touch", "here"]}), *words, cwd=folder)
        assert done.returncode == 2
        assert "Usage: bash SCRIPT [OPTIONS]" in done.stderr
        assert names(folder) == []

    def test_help(self, folder: Path) -> None:
        done = bash(make_script({"command": ["touch", "here"]}, *CONTRACT), "--help", cwd=folder)
        assert (done.returncode, done.stderr, names(folder)) == (0, "", [])
        assert "--repo DIR" in done.stdout

    def test_a_dirty_record_warns(self, folder: Path) -> None:
        done = bash(make_script({"git_dirty": True}), cwd=folder)
        assert "operation 1 ran with uncommitted changes that this script does not have" in done.stderr

    @pytest.mark.parametrize("commit", ["unknown", "abc", "ABC1234", "abc1234\n", "HEAD", "-abc1234", "a" * 65, ""])
    def test_an_odd_commit_warns(self, folder: Path, commit: str) -> None:
        done = bash(make_script({"git_commit_hash": commit}), cwd=folder)
        assert done.returncode == 0
        assert "the commit of operation 1 is unknown" in done.stderr


class TestGit:
    def test_each_step_sees_the_code_of_its_commit(self, repository: Repository, tmp_path: Path) -> None:
        first = repository.commit(code="A")
        second = repository.commit(code="B")
        out = tmp_path / "out"
        copies = python("import sys; open(sys.argv[1], 'a').write(open('code').read())", str(out))
        fields = [{"command": copies, "git_commit_hash": commit} for commit in (first, second[:10], first, second)]
        done = bash(make_script(*fields), cwd=repository.path)
        assert (done.returncode, done.stderr) == (0, "")
        assert out.read_text() == "ABAB"
        assert (repository.branch, repository.git("rev-parse", "HEAD")) == ("feature/analysis", second)

    @pytest.mark.parametrize("where", ["elsewhere", "subfolder", "clone"])
    def test_from_another_directory_and_in_another_clone(
        self, repository: Repository, tmp_path: Path, folder: Path, where: str
    ) -> None:
        first = repository.commit(code="A")
        repository.commit(code="B")
        (repository.path / "sub").mkdir()
        target = {
            "elsewhere": repository.path,
            "subfolder": repository.path / "sub",
            "clone": tmp_path / "-clone",
        }[where]
        if where == "clone":
            repository.git("clone", "--quiet", str(repository.path), str(target))
        script = make_script({"command": ["cp", "code", "copy"], "git_commit_hash": first})
        done = bash(script, f"--repo={os.path.relpath(target, folder)}", cwd=folder)
        assert (done.returncode, done.stderr) == (0, "")
        root = target if where == "clone" else repository.path
        assert (root / "copy").read_text() == "A"
        assert Repository(root).branch == "feature/analysis"
        assert names(folder) == []

    @pytest.mark.parametrize("detached", [True, False])
    @pytest.mark.parametrize("failing", [True, False])
    @pytest.mark.parametrize("handling", [True, False])
    def test_what_was_checked_out_comes_back(
        self, repository: Repository, detached: bool, failing: bool, handling: bool
    ) -> None:
        first = repository.commit(code="A")
        second = repository.commit(code="B")
        repository.git("branch", first)  # a branch that is named like a commit
        if detached:
            repository.git("checkout", "--quiet", "--detach", second)
        step = {"command": ["false" if failing else "true"], "git_commit_hash": first}
        done = bash(make_script(step, add_error_handling=handling), cwd=repository.path)
        assert done.returncode == failing
        assert repository.branch == ("HEAD" if detached else "feature/analysis")
        assert repository.git("rev-parse", "HEAD") == second

    @pytest.mark.parametrize("name", ["$(touch canary)".replace(" ", "${IFS}"), "a'b", 'a"b', "`x`", "code", "é;x"])
    def test_a_branch_with_any_name_comes_back(self, repository: Repository, name: str) -> None:
        first = repository.commit(code="A")
        repository.git("checkout", "--quiet", "-b", name)
        repository.commit(code="B")
        done = bash(make_script({"git_commit_hash": first}), cwd=repository.path)
        assert (done.returncode, done.stderr) == (0, "")
        assert repository.git("symbolic-ref", "HEAD") == f"refs/heads/{name}"
        assert not (repository.path / "canary").exists()

    @pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
    def test_a_signal_ends_the_step_with_its_children_and_restores(
        self, repository: Repository, tmp_path: Path, sent: signal.Signals, code: int
    ) -> None:
        first = repository.commit(code="A")
        repository.commit(code="B")
        children = tmp_path / "children"
        spawns = f"sleep 60 & echo $! >>'{children}'; echo $$ >>'{children}'; sleep 60; touch '{tmp_path}/went-on'"
        file = tmp_path / "script.sh"
        fields = [{}, {}, {"command": ["bash", "-c", spawns], "git_commit_hash": first}, {}]
        file.write_text(make_script(*fields, add_error_handling=False))
        with subprocess.Popen(["bash", str(file)], cwd=repository.path, stdout=subprocess.DEVNULL) as process:
            wait_until(lambda: children.exists() and children.read_text().count("\n") == 2)
            process.send_signal(sent)
            assert process.wait(timeout=10) == code
        assert repository.branch == "feature/analysis"
        wait_until(lambda: not any(is_running(int(child)) for child in children.read_text().split()))
        assert not (tmp_path / "went-on").exists()

    def test_a_second_signal_ends_a_step_that_ignores_the_first(self, repository: Repository, tmp_path: Path) -> None:
        first = repository.commit(code="A")
        repository.commit(code="B")
        ready = tmp_path / "ready"
        stubborn = f"trap '' TERM; touch '{ready}'; for _ in $(seq 600); do sleep 0.1; done"
        file = tmp_path / "script.sh"
        file.write_text(make_script({"command": ["bash", "-c", stubborn], "git_commit_hash": first}))
        with subprocess.Popen(["bash", str(file)], cwd=repository.path, stdout=subprocess.DEVNULL) as process:
            wait_until(ready.exists)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 143
        assert repository.branch == "feature/analysis"

    def test_changed_tracked_files_are_refused(self, repository: Repository, tmp_path: Path) -> None:
        first = repository.commit(code="A")
        repository.commit(code="B")
        (repository.path / "code").write_text("C")
        done = bash(
            make_script({"command": appends("x", tmp_path / "out"), "git_commit_hash": first}), cwd=repository.path
        )
        assert done.returncode == 3
        assert "uncommitted changes. Commit or stash them" in done.stderr
        assert not (tmp_path / "out").exists()
        assert (repository.path / "code").read_text() == "C"

    def test_untracked_files_stay(self, repository: Repository) -> None:
        first = repository.commit(code="A")
        repository.commit(code="B")
        (repository.path / "before").write_text("x")
        done = bash(make_script({"command": ["touch", "after"], "git_commit_hash": first}), cwd=repository.path)
        assert done.returncode == 0
        assert {"before", "after"} <= set(names(repository.path))

    def test_missing_commits_are_all_named_and_nothing_runs(self, repository: Repository, tmp_path: Path) -> None:
        first = repository.commit(code="A")
        runs = {"command": appends("x", tmp_path / "out")}
        commits = [first, "1" * 40, "2222222", "1" * 40]
        done = bash(make_script(*({**runs, "git_commit_hash": commit} for commit in commits)), cwd=repository.path)
        assert done.returncode == 3
        said = [line.split(", which ")[0] for line in done.stderr.splitlines() if " lacks: " in line]
        assert said == [f"- operations 2, 3, 4 ran at commit {'1' * 40}, 2222222"]
        assert "git fetch" in done.stderr
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("state", ["none", "unborn", "missing"])
    def test_no_repository_is_refused(self, folder: Path, state: str) -> None:
        if state == "unborn":
            subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
        words = ["--repo", "missing"] if state == "missing" else []
        done = bash(make_script({"command": ["touch", "here"], "git_commit_hash": COMMIT}), *words, cwd=folder)
        assert done.returncode == 3
        assert "Nothing was run." in done.stderr
        assert "here" not in names(folder)

    @pytest.mark.parametrize("handling", [True, False])
    def test_a_commit_that_cannot_be_checked_out_fails_its_step(
        self, repository: Repository, tmp_path: Path, handling: bool
    ) -> None:
        first = repository.commit(code="A")
        second = repository.commit(other="B")
        repository.git("rm", "--quiet", "other")
        third = repository.commit()
        out = tmp_path / "out"
        fields: list[dict[str, Any]] = [
            {"command": ["touch", "other"], "git_commit_hash": first},
            {"command": appends("2", out), "git_commit_hash": second},
            {"command": appends("3", out), "git_commit_hash": third},
            {"command": appends("4", out)},
        ]
        done = bash(make_script(*fields, add_error_handling=handling), cwd=repository.path)
        assert done.returncode == 1
        assert f"Operation 2 failed: commit {second} cannot be checked out" in done.stderr
        assert (out.read_text() if out.exists() else "") == ("" if handling else "34")
        assert repository.branch == "feature/analysis"

    def test_it_says_so_when_the_branch_cannot_come_back(self, repository: Repository) -> None:
        first = repository.commit(code="A")
        repository.commit(code="B")
        done = bash(
            make_script({"command": ["cp", "/dev/null", "code"], "git_commit_hash": first}), cwd=repository.path
        )
        assert done.returncode == 1
        assert "Could not go back" in done.stderr
        assert done.stderr.endswith("It was: feature/analysis\n")

    def test_hooks_and_git_variables_stay_out(self, repository: Repository, tmp_path: Path) -> None:
        first = repository.commit(code="A")
        repository.commit(code="B")
        hook = repository.path / ".git" / "hooks" / "post-checkout"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch '{tmp_path}/hooked'\n")
        hook.chmod(0o755)
        strange = dict.fromkeys(("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "CDPATH"), "/nowhere")
        script = make_script({"git_commit_hash": first})
        done = bash(script, cwd=repository.path, env={**os.environ, **strange})
        assert (done.returncode, done.stderr) == (0, "")
        assert not (tmp_path / "hooked").exists()

    def test_a_script_inside_the_repository_survives_its_own_checkouts(self, repository: Repository) -> None:
        first = repository.commit(code="A")
        script = make_script({"git_commit_hash": first}, {"command": ["touch", "here"], "git_commit_hash": first})
        repository.commit(**{"reproduce.sh": script})
        done = run(["bash", "reproduce.sh", "--in-place"], cwd=repository.path)
        assert (done.returncode, done.stderr) == (0, "")
        assert (repository.path / "here").exists()
