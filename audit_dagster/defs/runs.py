"""How a run makes its partitions: each by itself, so that a bad one loses none of the others, and with patience."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg

from audit_dagster.errors import AuditError, DatabaseAwayError
from audit_dagster.settings import Settings

_MOST_NAMED = 20
_SECONDS_BETWEEN_TELLING = 5
_TRIES = 6
_FIRST_WAIT_SECONDS = 5

Metadata = dict[str, dg.MetadataValue]
nothing: Any = dg.Nothing  # Dagster's own hints do not know that it is a type of theirs
Made = dg.AssetMaterialization | dg.Output[None]

_days_per_run = Settings.load().backfill_days_per_run
# All days in one run, unless runs are to be spread.
backfill_policy = dg.BackfillPolicy.multi_run(_days_per_run) if _days_per_run else dg.BackfillPolicy.single_run()


def each_partition(context: dg.AssetExecutionContext, make: Callable[[str], Metadata]) -> Iterator[Made]:
    """Make every partition of the run, by its key, and show what `make` returns of it.

    Where some cannot be made, the others are materialized all the same: the run fails, with their names. Raises
    dg.Failure, and DatabaseAwayError as soon as `make` does.
    """
    made: dict[str, Metadata] = {}
    bad: dict[str, str] = {}
    for key in _with_progress(context, list(context.partition_keys)):
        try:
            made[key] = make(key)
        except DatabaseAwayError:
            raise
        except Exception as error:
            bad[key] = str(error) if isinstance(error, AuditError) else f"{type(error).__name__}: {error}"
            context.log.error(f"{key}: {bad[key]}", exc_info=not isinstance(error, AuditError))
    if not bad:
        for key, metadata in made.items():
            context.add_asset_metadata(metadata, partition_key=key)
        yield dg.Output(None)
        return
    # The step's output would stand for all its partitions: without it each that was made speaks for itself.
    for key, metadata in made.items():
        yield dg.AssetMaterialization(context.asset_key, partition=key, metadata=metadata)
    raise _failure(bad, len(made) + len(bad))


@contextlib.contextmanager
def patient(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext | dg.OpExecutionContext,
) -> Iterator[None]:
    """Where the database is away, try the step again: after 5 s, then each time after twice as long, for 5 minutes.

    Nothing else is tried again: what cannot be made now cannot be made in a minute.
    """
    try:
        yield
    except DatabaseAwayError as error:
        wait = _FIRST_WAIT_SECONDS * 2**context.retry_number
        raise dg.RetryRequested(max_retries=_TRIES, seconds_to_wait=wait) from error


def _with_progress(context: dg.AssetExecutionContext, keys: list[str]) -> Iterator[str]:
    started = told = time.monotonic()
    for done, key in enumerate(keys):
        now = time.monotonic()
        if now - told >= _SECONDS_BETWEEN_TELLING:
            told = now
            left = (now - started) / done * (len(keys) - done)
            context.log.info(f"{done} of {len(keys)} partitions, {left:.0f} s left")
        yield key


def _failure(bad: dict[str, str], partitions: int) -> dg.Failure:
    named = [f"{key}: {reason}" for key, reason in list(bad.items())[:_MOST_NAMED]]
    if len(bad) > _MOST_NAMED:
        named.append(f"and {len(bad) - _MOST_NAMED} more")
    description = f"{len(bad)} of {partitions} could not be made: {'; '.join(named)}"
    return dg.Failure(description, metadata={"not_made": list(bad)}, allow_retries=False)
