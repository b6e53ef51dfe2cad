"""A flight recorder for research command-line tools."""

from importlib import import_module
from typing import Any

_HOMES = {
    "AuditError": "errors",
    "AuditReportsComponent": "component",
    "AuditService": "audit_service",
    "LogEntry": "entry",
    "ReportService": "report_service",
    "create_custom_reproduction_script": "report_service",
    "create_reproduction_script": "report_service",
    "generate_report": "report_service",
    "get_logging_status": "audit_service",
    "log_custom_operation": "recording.recorder",
    "recent_logs": "audit_service",
    "record_cli": "recording.click_hook",
    "recorded": "recording.function",
    "set_global_logging": "audit_service",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name's module with its first use: a tool that only records never pays for the rest."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
