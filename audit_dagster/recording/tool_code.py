"""Where a tool's own code comes from: its distribution and version, the lock file beside it, and its repository."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from audit_dagster.recording import files

_LOCK_FILES = (
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
    "pixi.lock",
    "Pipfile.lock",
    "conda-lock.yml",
    "renv.lock",
    "package-lock.json",
    "Cargo.lock",
    "constraints.txt",
    "requirements.txt",
    "environment.yml",
)
_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "DESCRIPTION", "package.json")
_DISTRIBUTION = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)\.dist-info")


def file_of(function: Any) -> str | None:
    """The file with a function's own code, whatever decorators there are around it."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return getattr(getattr(function, "__code__", None), "co_filename", None)


@cache
def describe(code_file: str) -> tuple[dict[str, Any], str | None]:
    """What is known of the code in that file, and the folder in which its repository is to be looked for, if any.

    Never raises; what is not found is not there.
    """
    path = Path(os.path.realpath(code_file.replace("\0", "")))
    facts: dict[str, Any] = {"file": str(path)}
    source: Path | None = path.parent
    with contextlib.suppress(Exception):  # anything may stand in those files
        distribution = _installed_by(path)
        if distribution:
            facts |= _named(distribution)
            source = None
            source = _editable_source(distribution)
            facts["file"] = (source and _module_of(path.name, distribution, source)) or str(path)
    with contextlib.suppress(Exception):
        if source:
            facts |= {**_project(source), **facts}
    return facts, str(source) if source else None


def _installed_by(file: Path) -> Path | None:
    """The `.dist-info` of the distribution that installed a module or a script; None for code that lies elsewhere."""
    sites = [folder for folder in file.parents if folder.name.endswith("-packages")][:1]
    if not sites and file.parent.name == "bin" and not file.name.startswith("python"):
        sites = list(file.parent.parent.glob("lib/python3*/*-packages"))
    for site in sites:
        relative = os.path.relpath(file, site)
        package = Path(relative).parts[0].removesuffix(".py")  # most often the distribution is called the same
        for folder in sorted(site.glob("*.dist-info"), key=lambda one: not one.name.startswith(f"{package}-")):
            with contextlib.suppress(OSError):  # a system's package may have no RECORD
                if f"\n{relative}," in "\n" + (folder / "RECORD").read_text("utf-8", "replace"):
                    return folder
    return None


def _named(distribution: Path) -> dict[str, Any]:
    match = _DISTRIBUTION.fullmatch(distribution.name)
    return {"distribution": match["name"], "version": match["version"]} if match else {}


def _editable_source(distribution: Path) -> Path | None:
    try:
        origin = json.loads((distribution / "direct_url.json").read_text("utf-8"))
    except FileNotFoundError:
        return None
    url = str(origin.get("url", ""))
    if not (origin.get("dir_info", {}).get("editable") and url.startswith("file://")):
        return None
    from urllib.parse import unquote

    return Path(unquote(url.removeprefix("file://")))


def _module_of(script: str, distribution: Path, source: Path) -> str | None:
    """The file, in an editable project, that has the code of one of its console scripts."""
    entry_points = (distribution / "entry_points.txt").read_text("utf-8", "replace")
    match = re.search(rf"^{re.escape(script)}\s*=\s*([\w.]+)", entry_points, re.MULTILINE)
    relative = match[1].replace(".", os.sep) if match else None
    names = (f"{relative}.py", f"{relative}/__init__.py", f"src/{relative}.py", f"src/{relative}/__init__.py")
    return next((str(source / name) for name in names if (source / name).is_file()), None)


def _project(source: Path) -> dict[str, Any]:
    """The project around a source file: its name, its version where this Python has it installed, its lock file."""
    folders = (source, *source.parents)
    folder = next((one for one in folders if any((one / name).is_file() for name in _PROJECT_FILES)), None)
    if folder is None:
        return {}
    lock = next((seen for name in _LOCK_FILES if (seen := files.look(name, str(folder)))), None)
    facts: dict[str, Any] = {}
    with contextlib.suppress(Exception):
        facts = _declared(folder / "pyproject.toml")
    return {**facts, "lock_file": files.facts([lock])[0]} if lock else facts


def _declared(pyproject: Path) -> dict[str, Any]:
    import tomllib  # 3 ms, for who runs a project's own code

    project = tomllib.loads(pyproject.read_text("utf-8")).get("project", {})
    name = project.get("name")
    if not isinstance(name, str):
        return {}
    return {"distribution": name, "version": _installed_version(name) or project.get("version")}


def _installed_version(name: str) -> str | None:
    wanted = re.sub(r"[-_.]+", "_", name).lower()
    for site in sys.path:
        for folder in Path(site).glob("*.dist-info") if site.endswith("-packages") else ():
            match = _DISTRIBUTION.fullmatch(folder.name)
            if match and re.sub(r"[-_.]+", "_", match["name"]).lower() == wanted:
                return match["version"]
    return None
