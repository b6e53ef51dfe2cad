"""What the environment and a `.env` file say: POSTGRES_* and AUDIT_*.

The environment wins over the nearest `.env` in the working directory or above it. Nothing is read at import.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import date, time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from audit_dagster.errors import ConfigurationError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from audit_dagster.documents import Place

APP_NAME = "audit-dagster"
DEFAULT_START_DATE = date(2023, 1, 1)
_FOLDERS = ("AUDIT_STATE_DIR", "AUDIT_SPOOL_DIR", "AUDIT_REPORTS_DIR", "AUDIT_ALERTS_FILE", "AUDIT_TEMPLATES_DIR")
_OF_RECORDING = (*_FOLDERS, "POSTGRES_LOGGING_STATUS")
_chosen: dict[str, str] = {}
_POSTGRES_NAMES = ("POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD")


class PostgresSettings(NamedTuple):
    """Where PostgreSQL answers and who asks. The defaults are those of the documented `.env`."""

    host: str = "localhost"
    port: int = 5432
    db: str = "rtgs_audit"
    user: str = "audit_user"
    password: str = ""

    def __repr__(self) -> str:
        """Without the password."""
        return f"PostgresSettings({self.user}@{self.host}:{self.port}/{self.db})"

    def as_environment(self) -> dict[str, str]:
        """The same as POSTGRES_* variables, for a child process."""
        values = (self.host, str(self.port), self.db, self.user, self.password)
        return dict(zip(_POSTGRES_NAMES, values, strict=True))


class Settings(NamedTuple):
    """Every setting, checked. `postgres` is None where the embedded server serves."""

    postgres: PostgresSettings | None
    state_dir: Path
    spool_dir: Path
    config_file: Path
    reports: str
    templates_dir: Path | None
    timezone: str
    start_date: date
    start_date_chosen: bool
    daily_at: time
    weekly_at: time
    executor: str
    backfill_days_per_run: int | None
    min_success_rate: float
    keep_runs_days: int
    logging_override: bool | None
    problem: str | None
    given: Mapping[str, str]

    def __repr__(self) -> str:
        """Without `given`, which may hold a password."""
        shown = zip(self._fields[:-1], self, strict=False)
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown)})"

    @property
    def reports_dir(self) -> Place:
        """Where documents go. Raises ConfigurationError where it is a URL of a kind that is not known here."""
        from audit_dagster.documents import place  # a tool that records has no use for fsspec

        return place(self.reports)

    @property
    def zone(self) -> ZoneInfo:
        return zone_named(self.timezone, "AUDIT_TIMEZONE")

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the environment and `.env`. Raises ConfigurationError that names the variable."""
        return cls._read(_merged({**os.environ, **_chosen} if environ is None else environ))

    @classmethod
    def for_recording(cls) -> Settings:
        """As `load`, but a setting that recording has no use for may be wrong: `problem` then says which.

        An operation waits in the spool until that is mended. A tool's own `.env` may have the same names.
        """
        values = _merged({**os.environ, **_chosen})
        try:
            return cls._read(values)
        except ConfigurationError as error:
            used = {name: value for name, value in values.items() if name in _OF_RECORDING or not _is_ours(name)}
            is_from_file = any(name not in os.environ for name in values if _is_ours(name))
            problem = f"{error} ({nearest_env_file()})" if is_from_file else str(error)
            return cls._read(used)._replace(problem=problem, given=_given(values))

    @classmethod
    def _read(cls, values: Mapping[str, str]) -> Settings:
        state_dir, spool_dir, config_file = _places(values)
        return cls(
            postgres=_postgres(values),
            state_dir=state_dir,
            spool_dir=spool_dir,
            config_file=config_file,
            reports=_folder_or_url(values.get("AUDIT_REPORTS_DIR") or str(state_dir / "reports")),
            templates_dir=_templates_dir(values),
            timezone=_timezone(values.get("AUDIT_TIMEZONE")),
            start_date=_start_date(values.get("AUDIT_START_DATE")),
            start_date_chosen=bool(values.get("AUDIT_START_DATE")),
            daily_at=_time_of_day(values, "AUDIT_DAILY_AT", time(0, 15)),
            weekly_at=_time_of_day(values, "AUDIT_WEEKLY_AT", time(0, 30)),
            executor=_executor(values.get("AUDIT_EXECUTOR")),
            backfill_days_per_run=_days(values, "AUDIT_BACKFILL_DAYS_PER_RUN"),
            min_success_rate=_rate(values, "AUDIT_MIN_SUCCESS_RATE", 0.8),
            keep_runs_days=_days(values, "AUDIT_KEEP_RUNS_DAYS") or 180,
            logging_override=_switch(values.get("POSTGRES_LOGGING_STATUS")),
            problem=None,
            given=_given(values),
        )

    def child_environment(self) -> dict[str, str]:
        """This process's environment with these settings: for a child in another folder, out of `.env`'s reach."""
        return {**os.environ, **self.given}


def choose(values: Mapping[str, str]) -> None:
    """Let these variables win over the environment's, in this process and in those that it starts.

    For a host whose own POSTGRES_* mean something else: the environment stays as it is.
    """
    _chosen.clear()
    _chosen.update(values)


def chosen_templates_dir() -> Path | None:
    """AUDIT_TEMPLATES_DIR alone, whatever the other settings are."""
    return _templates_dir(_merged({**os.environ, **_chosen}))


def _templates_dir(values: Mapping[str, str]) -> Path | None:
    return _absolute(values["AUDIT_TEMPLATES_DIR"]) if values.get("AUDIT_TEMPLATES_DIR") else None


def _merged(environ: Mapping[str, str]) -> dict[str, str]:
    env_file = nearest_env_file()
    if env_file is None:
        return dict(environ)
    from dotenv import dotenv_values

    try:
        # Other programs' lines may be in any encoding.
        with env_file.open(encoding="utf-8", errors="surrogateescape") as lines:
            from_file = dotenv_values(stream=lines, interpolate=False)
    except OSError as error:
        raise ConfigurationError(f"cannot read {env_file}: {error}") from error
    return {**{name: value for name, value in from_file.items() if value is not None}, **environ}


def nearest_env_file() -> Path | None:
    """The `.env` that counts: the working directory's, or the next one above."""
    try:
        here = Path.cwd()
    except OSError:
        return None
    return next((folder / ".env" for folder in (here, *here.parents) if (folder / ".env").is_file()), None)


def _places(values: Mapping[str, str]) -> tuple[Path, Path, Path]:
    chosen = values.get("AUDIT_STATE_DIR")
    if chosen:
        state_dir = _absolute(chosen)
        return state_dir, _spool_dir(values, state_dir), state_dir / "settings.json"
    data, state, config = _users_folders(values)
    return data, _spool_dir(values, state), config / "settings.json"


def _users_folders(values: Mapping[str, str]) -> tuple[Path, Path, Path]:
    """Where this user's data, state and configuration belong, as platformdirs says.

    On Linux that is the XDG rule, written out here: importing platformdirs costs each recorded process 6 ms.
    """
    if not sys.platform.startswith("linux"):
        from platformdirs import user_config_path, user_data_path, user_state_path

        return user_data_path(APP_NAME), user_state_path(APP_NAME), user_config_path(APP_NAME)
    rule = (("XDG_DATA_HOME", "~/.local/share"), ("XDG_STATE_HOME", "~/.local/state"), ("XDG_CONFIG_HOME", "~/.config"))
    data, state, config = (_absolute(values.get(name, "").strip() or default) / APP_NAME for name, default in rule)
    return data, state, config


def _spool_dir(values: Mapping[str, str], home: Path) -> Path:
    return _absolute(values["AUDIT_SPOOL_DIR"]) if values.get("AUDIT_SPOOL_DIR") else home / "spool"


def _absolute(path: str) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise ConfigurationError(f"there is no home folder for {path}: set HOME or AUDIT_STATE_DIR") from None


def _folder_or_url(text: str) -> str:
    return text if "://" in text else str(_absolute(text))


def _is_ours(name: str) -> bool:
    return name.startswith(("POSTGRES_", "AUDIT_"))


def _given(values: Mapping[str, str]) -> dict[str, str]:
    ours = {name: value for name, value in values.items() if _is_ours(name) and value}
    return {name: _folder_or_url(value) if name in _FOLDERS else value for name, value in ours.items()}


def _postgres(values: Mapping[str, str]) -> PostgresSettings | None:
    if not any(values.get(name) for name in _POSTGRES_NAMES):
        return None
    default = PostgresSettings()
    port = values.get("POSTGRES_PORT") or str(default.port)
    if not (port.isdecimal() and 0 < int(port) < 65536):
        raise ConfigurationError(f"POSTGRES_PORT is {port!r}: set it to a number from 1 to 65535")
    return PostgresSettings(
        host=values.get("POSTGRES_HOST") or default.host,
        port=int(port),
        db=values.get("POSTGRES_DB") or default.db,
        user=values.get("POSTGRES_USER") or default.user,
        password=values.get("POSTGRES_PASSWORD") or default.password,
    )


def zone_named(name: str, source: str) -> ZoneInfo:
    """The time zone of that name. Raises ConfigurationError that says where the name came from."""
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ConfigurationError(f"{source} is {name!r}: set it to a name such as UTC or America/Chicago") from None


def _timezone(text: str | None) -> str:
    return zone_named(text, "AUDIT_TIMEZONE").key if text else "UTC"


def _start_date(text: str | None) -> date:
    if not text:
        return DEFAULT_START_DATE
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"AUDIT_START_DATE is {text!r}: set it to a date as YYYY-MM-DD") from None


def _executor(text: str | None) -> str:
    if text and text not in ("in_process", "celery"):
        raise ConfigurationError(f"AUDIT_EXECUTOR is {text!r}: set it to in_process or celery")
    return text or "in_process"


def _days(values: Mapping[str, str], name: str) -> int | None:
    text = values.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text)):
        raise ConfigurationError(f"{name} is {text!r}: set it to a number of days, from 1 to 99999")
    return int(text)


def _rate(values: Mapping[str, str], name: str, default: float) -> float:
    text = values.get(name)
    if not text:
        return default
    try:
        rate = float(text)
        if not 0 <= rate <= 1:
            raise ValueError
        return rate
    except ValueError:
        raise ConfigurationError(f"{name} is {text!r}: set it to a number from 0 to 1, such as {default}") from None


def _time_of_day(values: Mapping[str, str], name: str, default: time) -> time:
    text = values.get(name)
    if not text:
        return default
    try:
        found = time.fromisoformat(text)
        if text != f"{found:%H:%M}":  # nor seconds, nor a zone of its own
            raise ValueError
        return found
    except ValueError:
        raise ConfigurationError(f"{name} is {text!r}: set it to a time as HH:MM, such as {default:%H:%M}") from None


def _switch(text: str | None) -> bool | None:
    if not text:
        return None
    meanings = {"true": True, "1": True, "on": True, "yes": True, "enabled": True}
    meanings |= {"false": False, "0": False, "off": False, "no": False, "disabled": False}
    try:
        return meanings[text.strip().lower()]
    except KeyError:
        raise ConfigurationError(f"POSTGRES_LOGGING_STATUS is {text!r}: set it to true or false") from None
