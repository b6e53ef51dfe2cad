"""`audit-dagster dev`: what a person sees in a browser, and that nothing is left when it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audit_dagster_tests.pictures import PROGRAM, browser, dagster, free_port, graphql
from audit_dagster_tests.test_demo import Demo, clean_environment, made_once, open_folder, processes

ASSETS = """{
  assetNodes {
    assetKey { path }
    partitionStats { numPartitions numMaterialized numFailed }
    assetChecksOrError {
      ... on AssetChecks {
        checks { name executionForLatestMaterialization { status evaluation { success severity } } }
      }
    }
  }
}"""
AUTOMATION = """query ($location: String!) {
  sensorsOrError(repositorySelector: {repositoryLocationName: $location, repositoryName: "__repository__"}) {
    ... on Sensors { results { name sensorState { status ticks(limit: 5) { status error { message } } } } }
  }
  schedulesOrError(repositorySelector: {repositoryLocationName: $location, repositoryName: "__repository__"}) {
    ... on Schedules { results { name scheduleState { status } } }
  }
  runsOrError(filter: {pipelineName: "failure_alerts_job"}) { ... on Runs { results { status } } }
}"""


OBSERVED = {"audit_logs", "tool_logs"}
CHECKS = {"audit_logs": 3, "daily_report": 2, "reproduction_script": 1, "weekly_summary": 1, "tool_stats": 1}
SENSORS = {"default_automation_condition_sensor", "failed_runs_sensor", "failure_alerts_sensor", "new_tools_sensor"}


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium on PATH")
def test_a_person_sees_what_the_demo_made() -> None:
    demo = made_once()
    with dagster(demo.environment()) as address:
        nodes = {node["assetKey"]["path"][-1]: node for node in graphql(address, ASSETS)["assetNodes"]}
        _look_at_partitions(demo, nodes)
        _look_at_checks(nodes)
        _look_at_the_page(address, nodes)
        _look_at_automation(demo, address)
    assert processes(demo.folder) == []


def _look_at_partitions(demo: Demo, nodes: dict[str, Any]) -> None:
    """Every document that the demo made is a materialized partition."""
    reports = demo.folder / "reports"
    places = {"daily_report": "daily/*.md", "reproduction_script": "scripts/*.sh"}
    places |= {"weekly_summary": "weekly/*.md", "tool_stats": "tools/*/*.md"}
    assert set(nodes) == {*OBSERVED, *places, "reports_site"}
    assert (reports / "index.html").is_file()
    for name, pattern in places.items():
        stats = nodes[name]["partitionStats"]
        assert stats["numMaterialized"] == len(list(reports.glob(pattern))) > 1, name
        assert stats["numFailed"] == 0
    for name in ("weekly_summary", "tool_stats"):
        stats = nodes[name]["partitionStats"]
        assert stats["numMaterialized"] == stats["numPartitions"], name


def _look_at_checks(nodes: dict[str, Any]) -> None:
    """All of it was checked, and is true. On a day many of the demo's operations failed, which is a warning."""
    checks = {name: node["assetChecksOrError"].get("checks", []) for name, node in nodes.items()}
    assert {name: len(found) for name, found in checks.items() if found} == CHECKS
    for check in (check for found in checks.values() for check in found):
        found = check["executionForLatestMaterialization"]
        if check["name"] == "enough_operations_succeed":
            assert found["status"] == "FAILED" and found["evaluation"]["severity"] == "WARN", check
        else:
            assert found["status"] == "SUCCEEDED" and found["evaluation"]["success"], check


def _look_at_the_page(address: str, nodes: dict[str, Any]) -> None:
    with browser() as page:
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.goto(f"{address}/asset-groups")
        graph = page.locator("foreignObject")
        graph.get_by_text("Observed").first.wait_for()
        for name, node in nodes.items():
            shown = graph.filter(has=page.get_by_text(name, exact=True))
            if name not in {*OBSERVED, "reports_site"}:
                shown.get_by_text(f"{node['partitionStats']['numPartitions']} partitions").wait_for()
                shown.get_by_text(f"1 / {CHECKS[name]} Passed").wait_for()
            assert shown.get_by_text(name, exact=True).is_visible()
        assert complaints == []


def _look_at_automation(demo: Demo, address: str) -> None:
    """All of it runs, no tick failed, and the demo's failures were told of."""
    deadline = time.monotonic() + 60
    while True:
        state = graphql(address, AUTOMATION, location="audit_dagster.definitions")
        ticks = {
            sensor["name"]: [tick for tick in sensor["sensorState"]["ticks"] if tick["status"] != "STARTED"]
            for sensor in state["sensorsOrError"]["results"]
        }
        runs = {run["status"] for run in state["runsOrError"]["results"]}
        if all(ticks.values()) and runs & {"SUCCESS", "FAILURE"}:
            break
        assert time.monotonic() < deadline, state
        time.sleep(0.5)
    assert set(ticks) == SENSORS
    assert [tick for all_ticks in ticks.values() for tick in all_ticks if tick["error"]] == []
    assert runs == {"SUCCESS"}
    assert len(list((demo.folder / "reports" / "alerts").glob("*.md"))) == 1
    states = [sensor["sensorState"]["status"] for sensor in state["sensorsOrError"]["results"]]
    states += [schedule["scheduleState"]["status"] for schedule in state["schedulesOrError"]["results"]]
    assert states == ["RUNNING"] * (len(SENSORS) + 6)


def test_port_in_use(tmp_path: Path) -> None:
    environment = clean_environment() | {"AUDIT_STATE_DIR": str(tmp_path / "state")}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*PROGRAM, "dev", "--port", str(port)], env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == f"Error: cannot open 127.0.0.1:{port} (Address already in use): choose another with --port\n"
    assert not (tmp_path / "state").exists()


def test_sigterm_while_the_database_is_made(started: tuple[subprocess.Popen[str], Path]) -> None:
    process, folder = started
    deadline = time.monotonic() + 20
    while not (folder / "state" / "postgres" / "server.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=15) == 0
    assert processes(folder) == []


def test_ctrl_c_while_dagster_starts(started: tuple[subprocess.Popen[str], Path]) -> None:
    process, folder = started
    _wait_for_the_address(process)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=15) == 0
    assert processes(folder) == []


def test_second_ctrl_c_does_not_wait(started: tuple[subprocess.Popen[str], Path]) -> None:
    process, folder = started
    _wait_for_the_address(process)
    dagster_dev = _process_of(folder, "dagster\\x00dev")
    os.kill(dagster_dev, signal.SIGSTOP)  # it will not listen
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=5) == 0
    assert processes(folder) == []


def _process_of(folder: Path, words: str) -> int:
    """The number of the process with these words: it comes a moment after the address was said."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for one in processes(folder, 0):
            if words in one:
                return int(one.split(":")[0])
        time.sleep(0.05)
    pytest.fail(f"no process has {words!r}")


def test_kill_9_leaves_nothing_for_long(started: tuple[subprocess.Popen[str], Path]) -> None:
    process, folder = started
    _wait_for_the_address(process)
    process.kill()
    process.wait()
    assert processes(folder, patience=20) == []


@pytest.fixture
def started() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """`audit-dagster dev` over a database that is not there yet, as a terminal's foreground group."""
    folder = open_folder()
    environment = clean_environment() | {"AUDIT_STATE_DIR": str(folder / "state"), "AUDIT_SERVER_IDLE_SECONDS": "1"}
    with subprocess.Popen(
        [*PROGRAM, "dev", "--port", str(free_port())],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        process_group=0,
    ) as process:
        yield process, folder
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def _wait_for_the_address(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    assert "http://127.0.0.1:" in process.stdout.readline()
    time.sleep(1)
