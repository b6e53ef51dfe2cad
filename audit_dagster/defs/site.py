"""The one page over all documents, made again after any of them."""

import dagster as dg

from audit_dagster.defs.assets import daily_report, tool_stats, weekly_summary
from audit_dagster.defs.automation import remake_after
from audit_dagster.defs.resources import AuditResource
from audit_dagster.defs.runs import nothing, patient


@dg.asset(
    deps=[daily_report, weekly_summary, tool_stats],
    automation_condition=remake_after,
    dagster_type=nothing,
    group_name="audit",
    kinds={"html"},
    description="index.html, from which every report is found: a calendar, a search, failures, tools and people.",
)
def reports_site(context: dg.AssetExecutionContext, audit: AuditResource) -> None:
    """Write the page of what there is now."""
    service = audit.service()
    with patient(context), service.audit.database() as connection:
        document, pages = service.write_site(connection)
    context.add_output_metadata(
        {
            "path": dg.MetadataValue.path(str(document.path.absolute())),
            "days": dg.MetadataValue.int(len(pages.days)),
            "weeks": dg.MetadataValue.int(len(pages.weeks)),
            "tools": dg.MetadataValue.int(len(pages.tools)),
            "newest_day": dg.MetadataValue.text(str(pages.today or "none")),
            "operations": dg.MetadataValue.int(document.operations),
            "failed": dg.MetadataValue.int(document.failed),
        }
    )
