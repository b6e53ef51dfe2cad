"""The wheel stands alone: installed in a clean environment, away from the checkout, it has all it needs."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from audit_dagster.settings import Settings

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in isolation, by the project's own files."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", folder, CHECKOUT], check=True)
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_has_code_data_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    data = {
        str(path.relative_to(CHECKOUT))
        for pattern in ("audit_dagster/store/**/*.sql", "audit_dagster/demo/lab/**/*.*", "audit_dagster/**/*.py")
        for path in CHECKOUT.glob(pattern)
        if "__pycache__" not in path.parts
    }
    data |= {f"audit_dagster/templates/{path.name}" for path in (CHECKOUT / "templates").iterdir()}
    data |= {"audit_dagster/dagster.yaml", "audit_dagster/py.typed", "audit_dagster/demo/lab/commit_1/.gitignore"}
    assert data <= names
    assert not [name for name in names if name.startswith("audit_dagster_tests")]


def test_the_installed_wheel_renders_every_template_and_records(
    wheel: Path, settings: Settings, tmp_path: Path
) -> None:
    """Its dependencies come from this environment: what is tried is that the wheel itself lacks nothing."""
    environment = tmp_path / "a clean environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    site = environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    python = environment / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*install, wheel], check=True)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    home = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "AUDIT_STATE_DIR": str(settings.state_dir)}
    home |= settings.postgres.as_environment() if settings.postgres else {}
    code = (
        "import audit_dagster, audit_dagster.render as r; print(audit_dagster.__file__);"
        "print([bool(r.environment().get_template(name)) for name in r.environment().list_templates()])"
    )
    done = subprocess.run([python, "-c", code], cwd=tmp_path, env=home, check=True, capture_output=True, text=True)
    place, rendered = done.stdout.splitlines()
    assert place.startswith(str(site))
    assert rendered == str([True] * len(list((CHECKOUT / "templates").iterdir())))
    script = environment / "bin" / "audit-dagster"
    version = subprocess.run([script, "--version"], cwd=tmp_path, env=home, check=True, capture_output=True, text=True)
    assert version.stdout.startswith("audit-dagster, version ")
    assert (
        subprocess.run([script, "run", "--", "bash", "-c", "exit 3"], cwd=tmp_path, env=home, check=False).returncode
        == 3
    )
    code = "from audit_dagster.definitions import defs; print(*sorted(one.key.to_user_string() for one in defs.assets))"
    done = subprocess.run([python, "-c", code], cwd=tmp_path, env=home, check=True, capture_output=True, text=True)
    expected = "audit_logs daily_report reports_site reproduction_script tool_logs tool_stats weekly_summary"
    assert done.stdout.strip() == expected
    recent = subprocess.run([script, "recent"], cwd=tmp_path, env=home, check=True, capture_output=True, text=True)
    assert "FAILED\tbash\trun" in recent.stdout
