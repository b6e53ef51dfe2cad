"""The floor of `audit-dagster recent`: the least Python that connects, asks the same and prints it."""

import os
import sys
from pathlib import Path

import click
import psycopg


@click.command()
@click.argument("query_file")
@click.option("--limit", type=int, required=True)
def recent(query_file: str, limit: int) -> None:
    """Print the newest operations."""
    with psycopg.connect(
        host=os.environ["POSTGRES_HOST"],
        port=os.environ["POSTGRES_PORT"],
        dbname=os.environ["POSTGRES_DB"],
        user=os.environ["POSTGRES_USER"],
        password=os.environ["POSTGRES_PASSWORD"],
        application_name="audit_dagster",
        connect_timeout=5,
        options="-c timezone=UTC",
        autocommit=True,
        prepare_threshold=None,
    ) as connection:
        bound = {"limit": limit, "tool_name": None, "since": None}
        for row in connection.execute(Path(query_file).read_bytes(), bound):
            click.echo("\t".join(map(str, row)))


if __name__ == "__main__":
    recent(sys.argv[1:])
