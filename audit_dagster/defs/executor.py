"""Where a run's steps happen: in the run's own process, or on Celery workers."""

import dagster as dg

from audit_dagster.errors import ConfigurationError
from audit_dagster.settings import Settings


def chosen_executor(settings: Settings) -> dg.ExecutorDefinition:
    """The executor that AUDIT_EXECUTOR names. Raises ConfigurationError where Celery is named and not at hand."""
    if settings.executor == "celery":
        return _celery(settings.given.get("AUDIT_CELERY_URL"))
    # A process per step would cost seconds for documents that take milliseconds.
    return dg.in_process_executor


def _celery(url: str | None) -> dg.ExecutorDefinition:
    if not url:
        raise ConfigurationError("AUDIT_EXECUTOR is celery: set AUDIT_CELERY_URL to a broker, as redis://localhost/0")
    try:
        from dagster_celery import celery_executor
    except ImportError as error:
        raise ConfigurationError("AUDIT_EXECUTOR is celery: pip install 'audit-dagster[celery]'") from error
    return celery_executor.configured({"broker": url, "backend": url}, name="celery")
