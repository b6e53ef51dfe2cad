"""Answers with columns and rows: a table on a terminal, lines with tabs in a pipe, JSON, CSV."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple, TypeVar

import click

from audit_dagster.commands import plain
from audit_dagster.entry import utc_text

_Command = TypeVar("_Command", bound=Callable[..., Any])
Row = Sequence[Any]


def cell_text(value: Any) -> str:
    """A value as text that says all of it: nothing for None, JSON for what is no text, UTC for times."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return utc_text(value)
    return str(value) if isinstance(value, date) else json.dumps(value, ensure_ascii=False)


class Column(NamedTuple):
    """A column: its name in JSON and CSV, its title on a terminal, and how people see its values.

    One that is `short` is cut last where a terminal is narrow.
    """

    name: str
    title: str
    text: Callable[[Any], str] = cell_text
    short: bool = False


def with_json(command: _Command) -> _Command:
    """Give a command the option --json, as its argument `form`."""
    return click.option("--json", "form", flag_value="json", help="Print a JSON array.")(command)


def with_forms(command: _Command) -> _Command:
    """Give a command the options --json and --csv, as its argument `form`; the last one given counts."""
    return with_json(click.option("--csv", "form", flag_value="csv", help="Print CSV with a header.")(command))


def show(
    columns: Sequence[Column],
    rows: Sequence[Row],
    form: str | None,
    nothing: str,
    is_red: Callable[[Row], bool] = lambda _row: False,
) -> None:
    """Print rows in the form that was asked for; where there are none, people read `nothing`."""
    if form == "json":
        show_json([{column.name: value for column, value in zip(columns, row, strict=True)} for row in rows])
    elif form == "csv":
        _show_csv(columns, rows)
    elif not rows:
        click.echo(nothing)
    else:
        texts = [[plain(column.text(value)) for column, value in zip(columns, row, strict=True)] for row in rows]
        if on_terminal():
            _show_table(columns, texts, [is_red(row) for row in rows])
        else:
            click.echo("\n".join("\t".join(row) for row in texts))


def show_json(values: Iterable[Any]) -> None:
    """Print a JSON array; times are in UTC."""
    click.echo(json.dumps(list(values), indent=2, default=cell_text))


def on_terminal() -> bool:
    """Whether a person reads what is printed."""
    return sys.stdout is not None and sys.stdout.isatty()


def _show_csv(columns: Sequence[Column], rows: Sequence[Row]) -> None:
    import csv
    import io

    from audit_dagster.render import csv_cell

    see = plain if on_terminal() else str  # a file keeps every character, line ends too
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(column.name for column in columns)
    writer.writerows([csv_cell(see(cell_text(value))) for value in row] for row in rows)
    click.echo(written.getvalue(), nl=False)


def _show_table(columns: Sequence[Column], texts: Sequence[Sequence[str]], red: Sequence[bool]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column.title, no_wrap=column.short)
    for row, is_red in zip(texts, red, strict=True):
        style = "red" if is_red else ""
        table.add_row(*(Text(cell, style=style, no_wrap=True, overflow="ellipsis") for cell in row))
    Console().print(table)


def show_sections(rows: Iterable[tuple[str, str, Any]]) -> None:
    """Print (section, name, value) to a terminal: each section under its heading, long values on several lines."""
    from itertools import groupby

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for number, (section, facts) in enumerate(groupby(rows, key=lambda row: row[0])):
        if number:
            console.print()
        console.print(Text(section, style="bold"))
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
        table.add_column(max_width=24, overflow="fold")
        table.add_column(overflow="fold")
        for _, name, value in facts:
            lines = "\n".join(plain(line) for line in cell_text(value).split("\n"))
            table.add_row(Text(plain(name), style="red" if section == "Error" else ""), Text(lines))
        console.print(table)
