"""The commands of `audit-dagster`, each to parse, call and show; `cli` puts them together."""

from __future__ import annotations

from pathlib import Path

import click

PATH: click.Path = click.Path(path_type=Path)


def plain(text: str) -> str:
    """Text from anywhere as a terminal may show it."""
    from audit_dagster.render import visible

    return visible(text)
