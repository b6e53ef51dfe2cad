"""The only room that imports Dagster. Its modules hold no logic: they ask the services and show what came of it."""

import warnings

import dagster as dg

# Single-run backfills are in beta since 2023; Dagster would say so at every start of every process.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
