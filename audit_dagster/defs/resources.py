"""The database and the folders, configured by environment variables."""

from __future__ import annotations

import os

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
        return settings._replace(postgres=PostgresSettings(self.host, self.port, self.db, self.user, self.password))

    def service(self) -> ReportService:
        """Writes documents."""
        return ReportService(self.settings())

    def audit(self) -> AuditService:
        """Reads the log."""
        return AuditService(self.settings())


def audit_resource(settings: Settings) -> AuditResource:
    """Each POSTGRES_* of the environment is read when a run starts; what only `.env` or a default says stands here."""
    place = settings.postgres
    if place is None:
        return AuditResource()
    return AuditResource(
        host=dg.EnvVar("POSTGRES_HOST") if "POSTGRES_HOST" in os.environ else place.host,
        port=dg.EnvVar.int("POSTGRES_PORT") if "POSTGRES_PORT" in os.environ else place.port,
        db=dg.EnvVar("POSTGRES_DB") if "POSTGRES_DB" in os.environ else place.db,
        user=dg.EnvVar("POSTGRES_USER") if "POSTGRES_USER" in os.environ else place.user,
        password=dg.EnvVar("POSTGRES_PASSWORD") if "POSTGRES_PASSWORD" in os.environ else place.password,
    )
