"""The database and the folders, configured by environment variables."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg

from audit_dagster.audit_service import AuditService
from audit_dagster.report_service import ReportService
from audit_dagster.settings import PostgresSettings, Settings


class AuditResource(dg.ConfigurableResource[None]):
    """Where the audit log is. Without a host the embedded server serves; the rest comes from AUDIT_*."""

    host: str = ""
    port: int = 5432
    db: str = ""
    user: str = ""
    password: str = ""

    def settings(self) -> Settings:
        """The settings of this process, with this resource's database."""
        settings = Settings.load()
        if not self.host:
            return settings
        return replace(settings, postgres=PostgresSettings(self.host, self.port, self.db, self.user, self.password))

    def service(self) -> ReportService:
        """Writes documents."""
        return ReportService(self.settings())

    def audit(self) -> AuditService:
        """Reads the log."""
        return AuditService(self.settings())


def audit_resource(settings: Settings) -> AuditResource:
    """Bound to POSTGRES_*, read when a run starts, where any of them is set."""
    if settings.postgres is None:
        return AuditResource()
    return AuditResource(
        host=dg.EnvVar("POSTGRES_HOST"),
        port=dg.EnvVar.int("POSTGRES_PORT"),
        db=dg.EnvVar("POSTGRES_DB"),
        user=dg.EnvVar("POSTGRES_USER"),
        password=dg.EnvVar("POSTGRES_PASSWORD"),
    )
