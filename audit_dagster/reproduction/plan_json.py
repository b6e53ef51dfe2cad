"""A plan for another program: the steps that a script would take, as one JSON object."""

from __future__ import annotations

import json
from typing import Any

from audit_dagster.entry import LogEntry, utc_text
from audit_dagster.reproduction.ground import File
from audit_dagster.reproduction.plan import Plan, Step


def plan_json(plan: Plan) -> str:
    """The plan's JSON form, indented. `argv` has `${SECRET:NAME}` for each of the step's `secrets`."""
    form = {
        "start": utc_text(plan.start) if plan.start else None,
        "end": utc_text(plan.end) if plan.end else None,
        "steps": [_step(step) for step in plan.steps],
        "left_out": [{**_identity(left.entry), "reason": left.reason} for left in plan.left_out],
    }
    return f"{json.dumps(form, indent=2)}\n"


def _identity(entry: LogEntry) -> dict[str, Any]:
    return {
        "operation_id": entry.operation_id,
        "timestamp": utc_text(entry.timestamp),
        "tool_name": entry.tool_name,
        "operation": entry.operation,
    }


def _step(step: Step) -> dict[str, Any]:
    patch = step.patch
    return {
        "number": step.number,
        **_identity(step.entry),
        "argv": step.argv,
        "rebuilt": step.rebuilt,
        "directory": step.directory,
        "commit": step.commit,
        "patch": patch and {"sha256": patch.sha256, "tree": patch.tree, "exact": patch.exact},
        "inputs": [_file(file) for file in step.inputs],
        "outputs": [_file(file) for file in step.outputs],
        "expected_exit_code": step.expected_exit_code,
        "secrets": list(step.secrets),
        "destructive": step.beyond is not None,
    }


def _file(file: File) -> dict[str, Any]:
    made_by = {"made_by": file.made_by} if file.made_by else {}
    return {"path": file.path, "sha256": file.sha256, "size": file.size, **made_by}
