"""All of this in somebody's own Dagster project: `type: audit_dagster.AuditReportsComponent` in a `defs.yaml`."""

from __future__ import annotations

import dagster as dg

from audit_dagster.defs.resources import AuditResource
from audit_dagster.settings import PostgresSettings, Settings, choose

__all__ = ["AuditReportsComponent"]

_DEFAULT = PostgresSettings()
_DAGSTERS_OWN_SENSOR = "default_automation_condition_sensor"


class AuditDatabase(dg.Model, dg.Resolvable):
    """Where the audit log is. Given, it stands in the place of every POSTGRES_* of the environment."""

    host: str = _DEFAULT.host
    port: int = _DEFAULT.port
    db: str = _DEFAULT.db
    user: str = _DEFAULT.user
    password: str = _DEFAULT.password

    def variables(self) -> dict[str, str]:
        """The same as POSTGRES_* variables."""
        return PostgresSettings(self.host, self.port, self.db, self.user, self.password).as_environment()


class AuditReportsComponent(dg.Component, dg.Model, dg.Resolvable):
    """Reports, checks, schedules and alerts about the operations that `audit-dagster` recorded.

    What is not given here, the environment says: POSTGRES_* and AUDIT_*.
    """

    postgres: AuditDatabase | None = None
    timezone: str | None = None
    start_date: str | None = None
    reports_dir: str | None = None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002
        """The definitions of `audit_dagster.definitions`, with the executor left to the project."""
        choose(self._variables())
        # Only now: its partitions are made when it is imported, from the settings.
        from audit_dagster.definitions import defs
        from audit_dagster.defs.partitions import day_partitions

        settings = Settings.load()
        if (day_partitions.timezone, day_partitions.start.date()) != (settings.timezone, settings.start_date):
            raise dg.DagsterInvalidDefinitionError(
                "audit_dagster.defs was imported before AuditReportsComponent was loaded, with another zone or start: "
                "set AUDIT_TIMEZONE and AUDIT_START_DATE in the environment instead of timezone and start_date"
            )
        sensors = [sensor for sensor in defs.sensors or () if sensor.name != _DAGSTERS_OWN_SENSOR]
        return dg.Definitions(
            assets=defs.assets,
            asset_checks=defs.asset_checks,
            jobs=defs.jobs,
            schedules=defs.schedules,
            sensors=[*sensors, _automation(defs)],
            # It asks the settings when it is used, so that the password is no resource configuration.
            resources={"audit": AuditResource()},
        )

    def _variables(self) -> dict[str, str]:
        ours = {
            "AUDIT_TIMEZONE": self.timezone,
            "AUDIT_START_DATE": self.start_date,
            "AUDIT_REPORTS_DIR": self.reports_dir,
        }
        database = self.postgres.variables() if self.postgres else {}
        return {**database, **{name: value for name, value in ours.items() if value}}


def _automation(defs: dg.Definitions) -> dg.AutomationConditionSensorDefinition:
    """For these assets alone, by a name of its own: the project may have declared Dagster's for the others."""
    keys = [key for asset in defs.assets or () if isinstance(asset, dg.AssetsDefinition) for key in asset.keys]
    return dg.AutomationConditionSensorDefinition(
        "audit_automation_sensor",
        target=dg.AssetSelection.assets(*keys),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Make the documents again whose rows arrived late.",
    )
