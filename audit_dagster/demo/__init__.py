"""A small real analysis, recorded, reported and run again: `audit-dagster demo`."""
