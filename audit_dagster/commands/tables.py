"""Answers with columns and rows: a table on a terminal, lines with tabs in a pipe, JSON, CSV."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from audit_dagster.commands import plain
from audit_dagster.entry import utc_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_ANY_WIDTH = 100_000
_MOST_LINES = 3  # of a value that has lines of its own
_NARROWEST = 10  # to this, a text may be cut
_Item = TypeVar("_Item")
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

    Where a terminal is narrow its texts are cut, or stay whole (`keep`), or go on in the next line (`fold`), or stand
    by themselves below their row (`below`, for one column of a table without `fold`). Where it is narrower still, every
    value has a line.
    """

    name: str
    title: str
    text: Callable[[Any], str] = cell_text
    narrow: str = "cut"


def with_forms(command: _Command) -> _Command:
    """Give a command the options --json and --csv, as its argument `form`; the last one given counts."""
    as_csv = click.option("--csv", "form", flag_value="csv", help="Print CSV with a header.")
    return click.option("--json", "form", flag_value="json", help="Print a JSON array.")(as_csv(command))


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
            _show_table(columns, rows, texts, [is_red(row) for row in rows])
        else:
            click.echo("\n".join("\t".join(row) for row in texts))


def show_paths(paths: Sequence[str], form: str) -> None:
    """Print paths as a JSON array of texts, or as CSV."""
    if form == "json":
        show_json(paths)
    else:
        _show_csv([Column("path", "Path")], [[path] for path in paths])


def show_json(values: Iterable[Any]) -> None:
    """Print a JSON array; times are in UTC."""
    click.echo(json.dumps(list(values), indent=2, default=cell_text))


def warn(text: str) -> None:
    """Print a line that must not be overlooked to stderr, in red where that is a terminal."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text(plain(text), style="red"), soft_wrap=True)


def on_terminal() -> bool:
    """Whether a person reads what is printed."""
    return sys.stdout is not None and sys.stdout.isatty()


def duration_text() -> Callable[[float | None], str]:
    """How people see a duration: `2 h 15 min`, and in a pipe, where it stays as it was, `8,123.4s`."""
    from audit_dagster.render import duration, seconds

    return duration if on_terminal() else seconds


def count_text() -> Callable[[int], str]:
    """How people see a number of things: `15,420`, and in a pipe, where programs read it, `15420`."""
    from audit_dagster.render import number

    return number if on_terminal() else str


def _show_csv(columns: Sequence[Column], rows: Sequence[Row]) -> None:
    from audit_dagster.escaping import csv_cell

    see = plain if on_terminal() else str  # a file keeps every character, line ends too
    lines = [_csv_line([column.name for column in columns])]
    lines += [_csv_line([csv_cell(see(cell_text(value))) for value in row]) for row in rows]
    click.echo("\n".join(lines), color=True)  # or click takes out escapes, and what comes after may begin a formula


def _csv_line(cells: Sequence[str]) -> str:
    """Quoted for a line end of CR and LF: of LF alone, the writer of older Pythons leaves a CR in a cell as it is."""
    import csv
    import io

    written = io.StringIO()
    csv.writer(written, lineterminator="\r\n").writerow(cells)
    return written.getvalue().removesuffix("\r\n")


def _show_table(
    columns: Sequence[Column], rows: Sequence[Row], texts: Sequence[Sequence[str]], red: Sequence[bool]
) -> None:
    from rich.console import Console
    from rich.segment import Segment, Segments
    from rich.text import Text

    console = Console()
    if _least_width(columns, texts) > console.width:
        _show_records(console, columns, texts, red)
        return
    styles = ["red" if is_red else "" for is_red in red]
    numbers = [all(map(_is_number, values)) for values in zip(*rows, strict=True)]
    below = next((place for place, column in enumerate(columns) if column.narrow == "below"), None)
    table = _table(columns, numbers, texts, styles)
    anything = console.options.update(width=_ANY_WIDTH)
    if below is None or console.measure(table, options=anything).maximum <= console.width:
        console.print(table)
        return
    upper = _table(_without(columns, below), _without(numbers, below), [_without(row, below) for row in texts], styles)
    header, *lines = console.render_lines(upper, pad=False)
    console.print(Segments([*header, Segment.line()]), end="")
    for line, row, style in zip(lines, texts, styles, strict=True):
        console.print(Segments([*line, Segment.line()]), end="")
        if row[below]:
            console.print(Text(f"    {row[below]}", style=style), no_wrap=True, overflow="ellipsis")


def _least_width(columns: Sequence[Column], texts: Sequence[Sequence[str]]) -> int:
    from rich.cells import cell_len

    widths = []
    for column, *cells in zip(columns, *texts, strict=True):
        longest = max(map(cell_len, (column.title, *cells)))
        widths.append(longest if column.narrow == "keep" else min(longest, _NARROWEST))
    kept = [width for width, column in zip(widths, columns, strict=True) if column.narrow != "below"]
    return sum(kept) + 2 * (len(kept) - 1)


def _show_records(
    console: Console, columns: Sequence[Column], texts: Sequence[Sequence[str]], red: Sequence[bool]
) -> None:
    from rich.table import Table
    from rich.text import Text

    for number, (row, is_red) in enumerate(zip(texts, red, strict=True)):
        if number:
            console.print()
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(no_wrap=True, style="bold", min_width=max(len(column.title) for column in columns))
        table.add_column(overflow="fold")
        for column, text in zip(columns, row, strict=True):
            if text:
                shown = Text(text, style="red" if is_red else "")
                shown.truncate(_MOST_LINES * console.width, overflow="ellipsis")
                table.add_row(Text(column.title), shown)
        console.print(table)


def _without(row: Sequence[_Item], place: int) -> list[_Item]:
    return [*row[:place], *row[place + 1 :]]


def _table(
    columns: Sequence[Column], numbers: Sequence[bool], texts: Sequence[Sequence[str]], styles: Sequence[str]
) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column, is_number in zip(columns, numbers, strict=True):
        title = Text(column.title, no_wrap=True, overflow="ellipsis")
        table.add_column(title, no_wrap=column.narrow == "keep", justify="right" if is_number else "left")
    for row, style in zip(texts, styles, strict=True):
        table.add_row(*(_cell(text, column, style) for text, column in zip(row, columns, strict=True)))
    return table


def _cell(text: str, column: Column, style: str) -> Text:
    from rich.text import Text

    folds = column.narrow == "fold"
    return Text(text, style=style, no_wrap=not folds, overflow="fold" if folds else "ellipsis")


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


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
