"""The commands of `audit-dagster`, each to parse, call and show; `cli` puts them together."""

from __future__ import annotations

import os
from pathlib import Path

import click


class _LocalPath(click.Path):
    """A path on this machine; `s3://…` would otherwise become a folder named `s3:`."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        if "://" in str(value):
            self.fail(f"{value} is a URL: give a local path", param, ctx)
        return super().convert(value, param, ctx)


PATH: click.Path = _LocalPath(path_type=Path)


def plain(text: str) -> str:
    """Text from anywhere as a terminal may show it."""
    from audit_dagster.escaping import visible

    return visible(text)
