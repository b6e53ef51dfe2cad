from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audit_dagster.entry import LogEntry
from audit_dagster.errors import InvalidInputError
from audit_dagster.importers.markdown_logs import is_execution_log, parse_log
from audit_dagster.reproduction.plan import Plan, ScriptConfig, make_plan
from audit_dagster_tests.conftest import REAL_LOGS, needs_real_logs

START = datetime(2023, 6, 1, 14, 30, 22, tzinfo=UTC)


def entry(number: int, minute: int | None = None, **fields: Any) -> LogEntry:
    known: dict[str, Any] = {
        "operation_id": identity(number),
        "timestamp": START + timedelta(minutes=number if minute is None else minute),
        "tool_name": "sensing-data",
        "operation": "extract",
        "user_name": "ada",
        "success": True,
        "command": ["python", "extract.py", str(number)],
    }
    return LogEntry(**(known | fields))


def identity(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def plan_of(*entries: LogEntry, **config: Any) -> Plan:
    return make_plan(entries, ScriptConfig(**config))


def numbers(plan: Plan) -> list[int]:
    return [int(step.entry.operation_id[-12:]) for step in plan.steps]


def reasons(plan: Plan) -> dict[int, str]:
    return {int(left.entry.operation_id[-12:]): left.reason for left in plan.left_out}


def rebuilt(**fields: Any) -> list[str]:
    [step] = plan_of(entry(1, command=None, **fields)).steps
    assert step.rebuilt
    return step.argv


class TestOrder:
    def test_start_time_decides_and_the_id_breaks_ties(self) -> None:
        plan = plan_of(entry(3, 1), entry(1, 5), entry(2, 1), entry(4, 0))
        assert numbers(plan) == [4, 2, 3, 1]
        assert [step.number for step in plan.steps] == [1, 2, 3, 4]

    def test_tools_are_never_grouped(self) -> None:
        plan = plan_of(entry(1, tool_name="a"), entry(2, tool_name="b"), entry(3, tool_name="a"))
        assert numbers(plan) == [1, 2, 3]

    def test_an_entry_that_comes_twice_is_there_once(self) -> None:
        plan = plan_of(entry(1), entry(2), entry(1))
        assert (numbers(plan), plan.left_out) == ([1, 2], [])

    def test_the_span_covers_what_was_left_out_too(self) -> None:
        plan = plan_of(entry(2), entry(9, success=False), entry(1, success=False))
        assert (plan.start, plan.end) == (START + timedelta(minutes=1), START + timedelta(minutes=9))

    def test_nothing(self) -> None:
        assert plan_of() == Plan(steps=[], left_out=[], start=None, end=None)

    def test_every_entry_is_a_step_or_left_out(self) -> None:
        entries = [entry(n, success=n % 3 > 0, tool_name="audit" if n % 5 == 0 else "a b") for n in range(50)]
        plan = plan_of(*entries)
        assert sorted([*numbers(plan), *reasons(plan)]) == list(range(50))


class TestLeftOut:
    def test_failed_operations(self) -> None:
        plan = plan_of(entry(1, success=False, error_message="no\nnetwork"), entry(2, success=False), entry(3))
        assert (numbers(plan), reasons(plan)) == ([3], {1: "it failed: no↵network", 2: "it failed"})
        assert numbers(plan_of(entry(1, success=False), include_failed=True)) == [1]

    def test_a_long_error_is_shortened(self) -> None:
        assert len(reasons(plan_of(entry(1, success=False, error_message="x" * 100_000)))[1]) < 300

    def test_tools_and_operations_nobody_asked_for(self) -> None:
        entries = [entry(1, tool_name="a"), entry(2, tool_name="b"), entry(3, tool_name="a", operation="list")]
        plan = plan_of(*entries, include_tools=("a",), exclude_operations=("list",))
        assert numbers(plan) == [1]
        assert reasons(plan) == {
            2: "its tool is not among include_tools",
            3: "its operation is among exclude_operations",
        }

    @pytest.mark.parametrize(
        "fields",
        [
            {"tool_name": "audit", "command": None},
            {"command": ["audit-dagster", "recent"]},
            {"command": ["/venv/bin/audit-dagster"]},
            {"command": ["rtgs", "audit", "report"]},
            {"command": ["/venv/bin/python3.11", "/venv/bin/rtgs", "audit", "recent"]},
            {"command": ["/venv/bin/python", "-m", "audit_dagster.cli", "recent"]},
        ],
    )
    def test_the_audits_own_commands(self, fields: dict[str, Any]) -> None:
        assert reasons(plan_of(entry(1, **fields))) == {1: "it belongs to the audit itself"}

    @pytest.mark.parametrize(
        "command",
        [
            ["rtgs", "sensing-data", "audit"],
            ["python", "audit"],
            ["audit-dagster", "run", "--", "make"],
            ["python"],
            ["cat", "audit-dagster"],
        ],
    )
    def test_other_commands_stay(self, command: list[str]) -> None:
        assert [step.argv for step in plan_of(entry(1, command=command)).steps] == [command]

    @pytest.mark.parametrize("word", ["a\0b", "\ud800", "\udcff"])
    def test_words_that_no_script_can_carry(self, word: str) -> None:
        assert "no script can carry" in reasons(plan_of(entry(1, command=["echo", word])))[1]
        assert "no script can carry" in reasons(plan_of(entry(1, command=None, parameters={"a": word})))[1]


class TestNested:
    def test_an_operation_inside_a_step(self) -> None:
        child = entry(2, context={"parent_operation_id": identity(1)})
        grandchild = entry(3, context={"parent_operation_id": identity(2)})
        plan = plan_of(entry(1), child, grandchild, entry(4))
        assert (numbers(plan), reasons(plan)) == ([1, 4], {2: "runs inside step 1", 3: "runs inside step 1"})

    def test_a_child_that_sorts_before_its_parent(self) -> None:
        plan = plan_of(entry(1, 0, context={"parent_operation_id": identity(2)}), entry(2, 0))
        assert (numbers(plan), reasons(plan)) == ([2], {1: "runs inside step 1"})

    def test_a_parent_that_is_left_out_or_unknown_does_not_count(self) -> None:
        inside = {"parent_operation_id": identity(1)}
        elsewhere = {"parent_operation_id": identity(99)}
        plan = plan_of(entry(1, success=False), entry(2, context=inside), entry(3, context=elsewhere))
        assert numbers(plan) == [2, 3]

    @pytest.mark.parametrize("parent", [None, 5, [], {"a": 1}, identity(1)])
    def test_odd_parents(self, parent: Any) -> None:
        assert numbers(plan_of(entry(1, context={"parent_operation_id": parent}))) == [1]

    def test_parents_in_a_circle(self) -> None:
        circle = [entry(n, context={"parent_operation_id": identity(n % 3 + 1)}) for n in (1, 2, 3)]
        plan = plan_of(*circle)
        assert len(plan.steps) + len(plan.left_out) == 3
        assert plan.steps

    def test_one_process_runs_once(self) -> None:
        same: dict[str, Any] = {"command": ["make", "all"], "context": {"process_id": "p"}}
        inside = {"process_id": "q", "parent_operation_id": identity(2)}
        plan = plan_of(entry(1, **same), entry(2, **same), entry(3, context=inside))
        assert numbers(plan) == [1]
        assert reasons(plan) == {2: "the same process as step 1", 3: "runs inside step 1"}

    def test_other_processes_and_other_commands_run_again(self) -> None:
        context = {"process_id": "p"}
        plan = plan_of(
            entry(1, command=["make"], context=context),
            entry(2, command=["make"], context={"process_id": "q"}),
            entry(3, command=["make", "all"], context=context),
            entry(4, command=["make"], context={"process_id": ""}),
            entry(5, command=["make"]),
            entry(6, command=None, context=context),
            entry(7, command=None, context=context),
        )
        assert numbers(plan) == [1, 2, 3, 4, 5, 6, 7]

    def test_a_long_chain_is_quick(self) -> None:
        count = 10_000
        chain = [entry(n, count - n, context={"parent_operation_id": identity(n + 1)}) for n in range(count)]
        chain += [entry(count + n, count + n) for n in range(count)]
        began = time.monotonic()
        plan = plan_of(*chain)
        assert time.monotonic() - began < 3
        assert len(plan.steps) == count


class TestRebuilt:
    def test_the_contracts_sample(self) -> None:
        argv = rebuilt(
            parameters={"end_date": "2023-01-31", "start_date": "2023-01-01", "project": "Winter Turf - v3"},
            note="Monthly analysis for winter conditions",
        )
        assert argv == [
            *("rtgs", "sensing-data", "extract", "--project", "Winter Turf - v3", "--start-date", "2023-01-01"),
            *("--end-date", "2023-01-31", "--note", "Reproduction: Monthly analysis for winter conditions"),
        ]

    def test_known_flags_come_first_and_the_rest_as_recorded(self) -> None:
        keys = ["zeta", "end_date", "alpha", "start_date", "node_id", "parameter", "input_file", "file", "project"]
        flags = rebuilt(parameters=dict.fromkeys(keys, "x"))[3::2]
        assert flags == [
            *("--project", "--file", "--input-file", "--parameter", "--node-id", "--start-date", "--end-date"),
            *("--zeta", "--alpha"),
        ]

    def test_every_kind_of_value(self) -> None:
        values = {
            "yes": True,
            "no": False,
            "none": None,
            "many": ["a", 1, None, -2, {"b": 1}],
            "empty": [],
            "blank": "",
            "number": 1.5,
            "mapping": {"ä": [1, True]},
            "dash": "-x y",
        }
        assert rebuilt(parameters=values)[3:] == [
            *("--yes", "--many", "a", "--many", "1", "--many=-2", "--many", '{"b": 1}', "--blank", ""),
            *("--number", "1.5", "--mapping", '{"ä": [1, true]}', "--dash=-x y"),
        ]

    def test_no_command_means_none_or_no_words(self) -> None:
        [step] = plan_of(entry(1, command=[])).steps
        assert (step.rebuilt, step.argv) == (True, ["rtgs", "sensing-data", "extract"])
        [step] = plan_of(entry(1)).steps
        assert (step.rebuilt, step.argv) == (False, ["python", "extract.py", "1"])

    def test_notes(self) -> None:
        assert rebuilt(note="a\nb")[3:] == ["--note", "Reproduction: a\nb"]
        assert rebuilt(note="Reproduction: a")[3:] == ["--note", "Reproduction: a"]
        assert rebuilt(note="a", parameters={"note": "a"})[3:] == ["--note", "Reproduction: a"]
        assert rebuilt(parameters={"note": "b"})[3:] == ["--note", "Reproduction: b"]
        assert rebuilt(note="a\0")[3:] == ["--note", "Reproduction: a␀"]
        assert rebuilt(note="")[3:] == []

    @pytest.mark.parametrize("word", ["", "Sensing", "-x", "a b", "a;b", "ä", "a\n", "$(x)", "../x"])
    def test_words_that_are_no_commands(self, word: str) -> None:
        for odd in (entry(1, command=None, tool_name=word), entry(1, command=None, operation=word)):
            assert reasons(plan_of(odd)) == {1: "no command was recorded"}

    def test_the_text_that_was_shown_is_told_but_never_run(self) -> None:
        plan = plan_of(entry(1, command=None, tool_name="My Tool", context={"command_text": "my tool\n--x a b"}))
        assert reasons(plan) == {1: "no command was recorded (it was shown as: my tool↵--x a b)"}

    @pytest.mark.parametrize("key", ["", "a b", "-a", "1a", "a=b", "a\n", "ä", "$(x)"])
    def test_keys_that_are_no_flags(self, key: str) -> None:
        assert "is no name of a flag" in reasons(plan_of(entry(1, command=None, parameters={key: 1})))[1]


class TestDirectory:
    @pytest.mark.parametrize(
        ("root", "where", "expected"),
        [
            ("/home/ada/lab", "/home/ada/lab", ""),
            ("/home/ada/lab", "/home/ada/lab/a b/c", "a b/c"),
            ("/home/ada/lab/", "/home/ada/lab/x/", "x"),
            ("/", "/x", "x"),
            ("/home/ada/lab", "/home/ada/lab2", None),
            ("/home/ada/lab", "/home/ada/lab/../other", None),
            ("/home/ada/lab", "/home/ada", None),
            ("/home/ada/lab", "x", None),
            ("/home/ada/lab", None, None),
            ("lab", "lab/x", None),
            ("", "/x", None),
            (5, "/x", None),
        ],
    )
    def test_relative_to_the_root(self, root: Any, where: str | None, expected: str | None) -> None:
        [step] = plan_of(entry(1, working_directory=where, context={"git": {"root": root}})).steps
        assert step.directory == expected

    @pytest.mark.parametrize("context", [{}, {"git": None}, {"git": "x"}, {"git": {}}])
    def test_no_repository(self, context: dict[str, Any]) -> None:
        assert plan_of(entry(1, working_directory="/x", context=context)).steps[0].directory is None


class TestConfig:
    def test_the_documented_keys(self) -> None:
        config = ScriptConfig.from_mapping(
            {
                "include_tools": ["sensing-data", "visualization"],
                "exclude_operations": ["list-projects"],
                "add_timing": True,
                "add_error_handling": False,
            }
        )
        assert config == ScriptConfig(
            include_tools=("sensing-data", "visualization"),
            exclude_operations=("list-projects",),
            add_timing=True,
            add_error_handling=False,
        )

    @pytest.mark.parametrize("empty", [None, {}])
    def test_nothing_wanted(self, empty: dict[str, Any] | None) -> None:
        assert ScriptConfig.from_mapping(empty) == ScriptConfig()
        assert ScriptConfig().add_error_handling

    def test_unknown_keys_are_named_with_the_known_ones(self) -> None:
        with pytest.raises(InvalidInputError) as caught:
            ScriptConfig.from_mapping({"tools": [], "add_timing": True, "include_failed": True})
        for name in ("'tools'", "'include_failed'", "include_tools", "exclude_operations", "add_error_handling"):
            assert name in str(caught.value)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("include_tools", "sensing-data"),
            ("include_tools", [1]),
            ("include_tools", None),
            ("exclude_operations", {"a": 1}),
            ("add_timing", "yes"),
            ("add_timing", 1),
            ("add_error_handling", None),
        ],
    )
    def test_wrong_types(self, key: str, value: Any) -> None:
        with pytest.raises(InvalidInputError, match=key):
            ScriptConfig.from_mapping({key: value})


class TestGround:
    """What an operation stood on."""

    def test_files_below_the_root_are_relative_and_know_who_made_them(self) -> None:
        def context(kind: str, *paths: str) -> dict[str, Any]:
            return {"git": {"root": "/lab"}, kind: [{"path": path, "size": 1, "sha256": "a" * 64} for path in paths]}

        makes = context("outputs", "/lab/x", "/other/y", "/lab/odd\nname")
        reads = context("inputs", "/lab/x", "/other/y", "/lab2/z", "/lab/w")
        first = entry(1, working_directory="/lab/sub", context=makes)
        steps = plan_of(first, entry(2, working_directory="/lab", context=reads)).steps
        assert [file.path for file in steps[0].outputs] == ["x", "/other/y"]
        expected = [("x", 1), ("/other/y", 1), ("/lab2/z", 0), ("w", 0)]
        assert [(file.path, file.made_by) for file in steps[1].inputs] == expected
        assert (steps[0].directory, steps[0].root) == ("sub", "/lab")

    @pytest.mark.parametrize("odd", [None, "x", 5, [5], [{}], [{"path": 5}], [{"path": "relative"}], {"path": "/x"}])
    def test_odd_files(self, odd: Any) -> None:
        [step] = plan_of(entry(1, context={"inputs": odd, "outputs": odd})).steps
        assert (step.inputs, step.outputs) == ([], [])

    @pytest.mark.parametrize(
        ("command", "expected"),
        [
            (["/venv/bin/python3", "/venv/bin/fit", "-x"], ["/venv/bin/fit", "-x"]),
            (["/usr/bin/python3", "/home/ada/.local/bin/fit"], ["/home/ada/.local/bin/fit"]),
            (["/lab/.venv/bin/python", "/lab/.venv/bin/fit"], ["/lab/.venv/bin/fit"]),
            (["/venv/bin/python", "/lab/bin/tool"], ["/venv/bin/python", "/lab/bin/tool"]),
            (["/venv/bin/python", "/venv/bin/fit.py"], ["/venv/bin/python", "/venv/bin/fit.py"]),
            (["/venv/bin/python", "-m", "fit"], ["/venv/bin/python", "-m", "fit"]),
            (["python", "/venv/bin/fit"], ["python", "/venv/bin/fit"]),
        ],
    )
    def test_console_scripts(self, command: list[str], expected: list[str]) -> None:
        context = {"git": {"root": "/lab"}}
        assert plan_of(entry(1, command=command, working_directory="/lab", context=context)).steps[0].argv == expected

    def test_what_is_destructive(self) -> None:
        names = [
            "device-configuration update",
            "particle flash",
            "data upload",
            "sensing-data extract",
            "x update-index",
        ]
        names += ["device-configuration decode", "repo push", "visualization create", "gateway reset"]
        said = [plan_of(entry(1, tool_name=n.split()[0], operation=n.split()[1])).steps[0].beyond for n in names]
        assert [reason is not None for reason in said] == [True, True, True, False, False, False, True, False, True]

    @pytest.mark.parametrize(
        ("command", "secrets"),
        [
            (["x", "--a=${SECRET:A}", "${SECRET:B_2}${SECRET:A}"], ("A", "B_2")),
            (["x", "plain"], None),
            (["x", "${SECRET:A}", "\\udcff"], None),
            (["x", "${SECRET:A}", "aaa… (5000000 characters)"], None),
        ],
    )
    def test_commands_that_are_not_exact(self, command: list[str], secrets: tuple[str, ...] | None) -> None:
        plan = plan_of(entry(1, command=command, context={"command_is_exact": False}))
        assert [step.secrets for step in plan.steps] == ([secrets] if secrets else [])
        assert plan_of(entry(1, command=command)).steps[0].secrets == ()

    @pytest.mark.parametrize(
        ("results", "expected"), [({"exit_code": 7}, 7), ({}, 1), ({"exit_code": True}, 1), ({"exit_code": "7"}, 1)]
    )
    def test_exit_codes(self, results: dict[str, Any], expected: int) -> None:
        assert plan_of(entry(1, results=results)).steps[0].expected_exit_code == 0
        failed = plan_of(entry(1, results=results, success=False), include_failed=True)
        assert failed.steps[0].expected_exit_code == expected

    @needs_real_logs
    def test_the_real_logs(self) -> None:
        """For each of the 39 it says what can be run again, and why the rest cannot."""
        found = [
            parse_log(path.read_text("utf-8"), UTC, path.name)
            for path in sorted(REAL_LOGS.rglob("*.md"))
            if is_execution_log(path.read_text("utf-8"))
        ]
        plan = plan_of(*found)
        assert len(plan.steps) + len(plan.left_out) == len(found) == 39
        said = Counter(left.reason.split(":")[0] for left in plan.left_out)
        assert said == {"no command was recorded": 36, "it failed": 3}
