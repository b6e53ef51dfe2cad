"""What runs: the documents of a day, of a week, of a week's tools; an observation; the alerts."""

import dagster as dg

from audit_dagster.alert_service import Sent, send_alerts
from audit_dagster.defs.assets import daily_report, reproduction_script, tool_stats, weekly_summary
from audit_dagster.defs.observation import audit_logs, tool_logs
from audit_dagster.defs.resources import AuditResource
from audit_dagster.defs.runs import patient
from audit_dagster.defs.site import reports_site

observe_audit_logs_job = dg.define_asset_job("observe_audit_logs_job", selection=[audit_logs])
observe_tool_logs_job = dg.define_asset_job("observe_tool_logs_job", selection=[tool_logs])
daily_documents_job = dg.define_asset_job("daily_documents_job", selection=[daily_report, reproduction_script])
weekly_summary_job = dg.define_asset_job("weekly_summary_job", selection=[weekly_summary])
reports_site_job = dg.define_asset_job("reports_site_job", selection=[reports_site])
tool_stats_job = dg.define_asset_job("tool_stats_job", selection=[tool_stats])


@dg.op(description="Tell people of what failed, fell silent or took too long, and was not told yet.")
def send_alerts_op(context: dg.OpExecutionContext, audit: AuditResource) -> None:
    """Send what is due; the database makes sure that nothing is told twice or forgotten."""
    with patient(context), audit.audit().database() as connection:
        done = send_alerts(connection, audit.settings())
    context.log.info(f"{done.failures} failures counted, {done.told} incidents told, {done.resolved} resolved")
    for sent in done.sent:
        _show(context, sent)
    if done.heartbeat_error:
        context.log.warning(f"heartbeat: {done.heartbeat_error}")


def _show(context: dg.OpExecutionContext, sent: Sent) -> None:
    if sent.error is not None:
        context.log.error(f"{sent.target}: {sent.error}: it is tried again")
        return
    context.log.info(f"{sent.target}: {sent.subject}")
    observation = dg.AssetObservation(
        "failure_alerts",
        description=sent.subject,
        metadata={"target": sent.target, "kind": sent.kind, "message": dg.MetadataValue.md(sent.text)},
    )
    context.log_event(observation)


# Before documents, where runs wait for each other.
@dg.job(description="Tell people of failed operations.", tags={"dagster/priority": "1"})
def failure_alerts_job() -> None:
    """Send the alerts that are due."""
    send_alerts_op()
