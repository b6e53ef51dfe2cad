"""The templates of the documents: which there are, and whether a lab's own ones work."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from audit_dagster.commands import plain, samples
from audit_dagster.errors import AuditError, InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path

_Fill = Callable[[], None]


@click.group()
def templates() -> None:
    """See the documents' templates, and try your own: files of AUDIT_TEMPLATES_DIR win by their names.

    \b
    Examples:
      audit-dagster templates show daily_report.md.j2 > my_templates/daily_report.md.j2
      AUDIT_TEMPLATES_DIR=my_templates audit-dagster templates check
    """


@templates.command("list")
def list_templates() -> None:
    """Show each template's name, and whether it is the shipped one or your own.

    \b
    Example:
      audit-dagster templates list
    """
    from audit_dagster.render import templates_dir

    own = _own_templates()
    for name in sorted({*_names(templates_dir()), *own}):
        click.echo(f"{plain(name)}\t{'own' if name in own else 'shipped'}")


@templates.command()
@click.argument("name")
def show(name: str) -> None:
    """Print a shipped template, to begin your own with.

    \b
    Example:
      audit-dagster templates show daily_report.html.j2 > my_templates/daily_report.html.j2
    """
    from audit_dagster.render import templates_dir

    if name not in _names(templates_dir()):
        raise InvalidInputError(f"there is no template {name!r}: see `audit-dagster templates list`")
    click.echo((templates_dir() / name).read_text("utf-8"), nl=False)


@templates.command()
def check() -> None:
    """Fill your templates with made-up operations and rows; an error names file and line.

    Templates in subfolders, which yours may include, are looked at too. One that no document is made from by itself is
    only compiled.

    \b
    Example:
      AUDIT_TEMPLATES_DIR=my_templates audit-dagster templates check
    """
    failed = 0
    filled: set[_Fill] = set()
    for name in _own_templates():
        try:
            said = _tried(name, filled)
        except AuditError as error:
            failed += 1
            said = str(error)
        click.echo(f"{plain(name)}\t{plain(said)}")
    if failed:
        raise AuditError(f"{failed} templates do not work: correct the files that are named above")


def _own_templates() -> list[str]:
    from audit_dagster.render import environment
    from audit_dagster.settings import chosen_templates_dir

    environment()  # refuses a folder that does not exist
    own = chosen_templates_dir()
    return _names(own) if own else []


def _names(folder: Path) -> list[str]:
    """Relative to the folder, by which Jinja finds them."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.j2") if path.is_file())


def _tried(name: str, filled: set[_Fill]) -> str:
    """What could be said of a template; `filled` are the documents that work. Raises AuditError with file and line."""
    from audit_dagster.render import compiled

    compiled(name)
    fills = _FILLED.get(name, ())
    for fill in fills:
        if fill not in filled:
            fill()
            filled.add(fill)
    if fills:
        return "ok"
    is_misplaced = name.rpartition("/")[2] in _FILLED
    if is_misplaced:
        return "compiles; no document is made of it: only in the folder itself would it win"
    from difflib import get_close_matches

    meant = get_close_matches(name, _FILLED, n=1, cutoff=0.8)
    return f"compiles; no document is made of it: is it meant to be {meant[0]}?" if meant else "compiles"


_PAGES = (samples.fill_day, samples.fill_week, samples.fill_tool, samples.fill_site)
_FILLED: dict[str, tuple[_Fill, ...]] = {
    "daily_report.md.j2": (samples.fill_day,),
    "daily_report.html.j2": (samples.fill_day,),
    "weekly_summary.md.j2": (samples.fill_week,),
    "weekly_summary.html.j2": (samples.fill_week,),
    "tool_report.md.j2": (samples.fill_tool,),
    "tool_report.html.j2": (samples.fill_tool,),
    "index.html.j2": (samples.fill_site,),
    "index_script.html.j2": (samples.fill_site,),
    "page.html.j2": _PAGES,
    "page_script.html.j2": _PAGES,
    "reproduction_script.sh.j2": (samples.fill_script,),
    "shell_hook.sh.j2": (samples.fill_hook,),
    "alert_message.md.j2": (samples.fill_alert,),
}
