"""The command line: `audit-dagster` and `rtgs audit` are this one group."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from audit_dagster.commands import PATH, again, alerts, ask, keep, look, plain, record, templates
from audit_dagster.errors import AuditError

_CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class AuditGroup(click.Group):
    """Turns an AuditError into one line on stderr and the error's exit code."""

    audit_dagster_unrecorded = True  # for record_cli: to look at the audit is no operation

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except AuditError as error:
            _tell(str(error))
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:  # end as the signal ends any program: a shell's loop around us ends with us
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        except OSError as error:
            if error.errno == errno.EPIPE:  # `| head`: click knows
                raise
            _tell(str(error) if error.filename else f"cannot write the answer: {error.strerror}")
            _forget_output()
            ctx.exit(1)


@click.group(cls=AuditGroup, context_settings=_CONTEXT, epilog="Exit codes: 0 done, 1 it failed, 2 the words are off.")
@click.version_option(package_name="audit-dagster")
def cli() -> None:
    """A flight recorder for research command-line tools.

    \b
    Examples:
      audit-dagster run -- python3 extract.py --site 4
      audit-dagster recent --limit 20
      audit-dagster show 4f3c21d8
    """


for _command in (
    *(look.recent, look.search, look.stats, look.report, look.site, again.reproduce, alerts.alerts),
    templates.templates,
    *(ask.show_operation, ask.diff, ask.open_report, ask.completion),
    *(record.run, record.log, record.shell_hook, record.import_command),
    *(keep.init_db, keep.sync, keep.stop_server),
    *(keep.postgres_logging_status, keep.enable_postgres_logging, keep.disable_postgres_logging),
):
    cli.add_command(_command)


@cli.command()
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Port of Dagster's UI.")
def dev(port: int) -> None:
    """Open Dagster on 127.0.0.1 over the same database, until Ctrl-C.

    \b
    Example:
      audit-dagster dev --port 3001
    """
    from audit_dagster.dev import run_dagster

    sys.exit(run_dagster(port))


@cli.command()
@click.option("--directory", default=".demo", show_default=True, type=PATH, help="Folder for all that it makes.")
def demo(directory: Path) -> None:
    """Record a small real analysis, report on it, and run it again from its script.

    \b
    Example:
      audit-dagster demo --directory ./try_it
    """
    from audit_dagster.demo.show import run_demo

    sys.exit(run_demo(directory.absolute()))


def main() -> None:
    """The console script `audit-dagster`."""
    gc.set_threshold(100_000)  # looking for cycles among ten thousand entries is a tenth of a command's time
    run_group(cli, "audit-dagster")


def run_group(group: click.Group, name: str) -> None:
    """Run a console script; where its last words cannot be written, say so, rather than let Python do it."""
    try:
        group(prog_name=name)
    except SystemExit as end:
        try:
            sys.stdout.flush()
        except OSError as error:
            _tell(f"cannot write the answer: {error.strerror}")
            _forget_output()
            sys.exit(1)
        except AttributeError:  # stdout was closed before we began
            sys.exit(end.code)
        raise
    except OSError as error:
        _tell(f"cannot write the answer: {error.strerror}")
        _forget_output()
        sys.exit(1)


def _forget_output() -> None:
    """What could not be written must not be tried again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _tell(message: str) -> None:
    click.echo(f"Error: {plain(message)}", err=True)


if __name__ == "__main__":
    main()
