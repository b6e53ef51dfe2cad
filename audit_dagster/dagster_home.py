"""The folder that Dagster calls its home: dagster.yaml, in the state directory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from audit_dagster.settings import Settings
from audit_dagster.store.connect import connect
from audit_dagster.store.query import fetch

_PACKAGE = Path(__file__).parent


def prepare(settings: Settings) -> Path:
    """Make the home, and let this process and its children use it with these settings. Returns it.

    Where nobody chose AUDIT_START_DATE, partitions begin with the earliest operation, so that the UI shows no empty
    years. Raises DatabaseError where Dagster would find no database.
    """
    with connect(settings) as connection:
        earliest = fetch(connection, "span")[0]["earliest"]
    home = settings.state_dir / "dagster"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    inside = _PACKAGE / "dagster.yaml"
    shutil.copyfile(inside if inside.is_file() else _PACKAGE.parent / "dagster.yaml", home / "dagster.yaml")
    os.environ.update(settings.given)  # Dagster works in its home, out of `.env`'s reach
    os.environ["DAGSTER_HOME"] = str(home)
    if not settings.start_date_chosen and earliest is not None:
        os.environ["AUDIT_START_DATE"] = str(earliest.astimezone(settings.zone).date())
    return home
