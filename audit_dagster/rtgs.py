"""The console script `rtgs`: `rtgs audit …` is this project's, every other command an installed rtgs-lab-tools'.

Theirs are recorded, without a line changed there.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import click

from audit_dagster.cli import cli as audit
from audit_dagster.cli import run_group
from audit_dagster.recording.click_hook import record_cli

_DISTRIBUTION = "rtgs-lab-tools"


class _LabTools(click.Group):
    """Asks rtgs-lab-tools for the commands that are not here."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Ours and theirs."""
        theirs = _lab_tools()
        return sorted({*super().list_commands(ctx), *(theirs.list_commands(ctx) if theirs else [])})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """`audit` is ours, whatever theirs has under that name."""
        ours = super().get_command(ctx, cmd_name)
        theirs = None if ours else _lab_tools()
        return theirs.get_command(ctx, cmd_name) if theirs else ours

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Say what is missing where a command of rtgs-lab-tools is asked for without it."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if _lab_tools() is not None:
                raise
            advice = "Install rtgs-lab-tools for its commands; `rtgs audit` works without it."
            raise click.UsageError(f"{error.message} {advice}", ctx) from error


@click.group(cls=_LabTools, context_settings={"help_option_names": ["-h", "--help"]})
def rtgs() -> None:
    """RTGS Lab Tools, with their audit."""


rtgs.add_command(audit, "audit")


def main() -> None:
    """The console script `rtgs`."""
    run_group(record_cli(rtgs), "rtgs")


def _lab_tools() -> click.Group | None:
    """The group behind the `rtgs` script that rtgs-lab-tools declares, where it is installed."""
    try:
        scripts = distribution(_DISTRIBUTION).entry_points.select(group="console_scripts", name="rtgs")
    except PackageNotFoundError:
        return None
    loaded = next((script.load() for script in scripts), None)
    return loaded if isinstance(loaded, click.Group) else None
