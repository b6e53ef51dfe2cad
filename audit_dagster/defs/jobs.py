"""What runs: the documents of a day, of a week, of a week's tools; an observation; the alerts."""

import dagster as dg

from audit_dagster.alert_service import send_failure_alerts
from audit_dagster.defs.assets import audit_logs, daily_report, reproduction_script, tool_stats, weekly_summary
from audit_dagster.defs.resources import AuditResource

observe_audit_logs_job = dg.define_asset_job("observe_audit_logs_job", selection=[audit_logs])
daily_documents_job = dg.define_asset_job("daily_documents_job", selection=[daily_report, reproduction_script])
weekly_summary_job = dg.define_asset_job("weekly_summary_job", selection=[weekly_summary])
tool_stats_job = dg.define_asset_job("tool_stats_job", selection=[tool_stats])


@dg.op(description="Write one message for the failures that nobody was told of yet.")
def send_alerts(context: dg.OpExecutionContext, audit: AuditResource) -> None:
    """Send what is due; the outbox makes sure that nothing is sent twice or forgotten."""
    with audit.audit().database() as connection:
        for path, failures in send_failure_alerts(connection, audit.settings()):
            context.log.error(f"{failures} failed operations: {path}")
            context.log_event(
                dg.AssetObservation(
                    "failure_alerts",
                    metadata={
                        "failures": failures,
                        "path": dg.MetadataValue.path(str(path.absolute())),
                        "message": dg.MetadataValue.md(path.read_text("utf-8")),
                    },
                )
            )


@dg.job(description="Tell people of failed operations.")
def failure_alerts_job() -> None:
    """Send the alerts that are due."""
    send_alerts()
