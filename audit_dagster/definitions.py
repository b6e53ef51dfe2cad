"""Everything that Dagster loads."""

import dagster as dg

from audit_dagster.defs import (
    assets,
    automation,
    checks,
    executor,
    jobs,
    log_checks,
    observation,
    resources,
    retention,
    schedules,
    sensors,
    site,
)
from audit_dagster.settings import Settings

defs = dg.Definitions(
    assets=[
        observation.audit_logs,
        observation.tool_logs,
        assets.daily_report,
        assets.reproduction_script,
        assets.weekly_summary,
        assets.tool_stats,
        site.reports_site,
    ],
    asset_checks=[
        log_checks.outbox_agrees_with_failures,
        log_checks.no_gap_in_any_spool,
        log_checks.documents_are_made,
        checks.daily_totals_equal_the_database,
        checks.enough_operations_succeed,
        checks.script_is_sound,
        checks.weekly_totals_equal_the_database,
        checks.tool_totals_equal_the_database,
    ],
    jobs=[
        jobs.observe_audit_logs_job,
        jobs.observe_tool_logs_job,
        jobs.daily_documents_job,
        jobs.weekly_summary_job,
        jobs.tool_stats_job,
        jobs.reports_site_job,
        jobs.failure_alerts_job,
        retention.old_runs_job,
    ],
    schedules=[
        schedules.observe_audit_logs_schedule,
        schedules.observe_tool_logs_schedule,
        schedules.daily_documents_schedule,
        schedules.weekly_summary_schedule,
        schedules.tool_stats_schedule,
        schedules.old_runs_schedule,
    ],
    sensors=[
        sensors.failure_alerts_sensor,
        sensors.failed_runs_sensor,
        sensors.new_tools_sensor,
        automation.default_automation_condition_sensor,
    ],
    resources={"audit": resources.audit_resource(Settings.load())},
    executor=executor.chosen_executor(Settings.load()),
)
