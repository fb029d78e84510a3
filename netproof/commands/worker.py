"""``netproof worker``: one worker process, for a queue that a service elsewhere fills."""

from __future__ import annotations

from pathlib import Path

import click

from netproof.commands.service import deployment_faults, settings

__all__ = ["QUEUES", "worker"]

# The names in service.queue.QUEUES, spelt out because importing them would slow down --help.
QUEUES = ["highs-high", "gurobi-high", "highs", "gurobi", "highs-low", "gurobi-low"]


@click.command(short_help="Run one worker of a service.")
@click.option(
    "--queue",
    "queues",
    type=click.Choice(QUEUES),
    multiple=True,
    required=True,
    help="Queue to serve; repeat in order of urgency.",
)
@click.option("--redis", metavar="URL", help="Redis or Valkey of the service; default: the embedded one.")
@click.option("--database", metavar="URL", help="SQLAlchemy URL of the ledger; default: SQLite in the data directory.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="The service's data directory; default: ~/.local/share/netproof.",
)
def worker(*, queues: tuple[str, ...], redis: str | None, database: str | None, data_dir: Path | None) -> int:
    """Run one worker process until interrupted; it may finish its job for a moment, then gives it back.

    Every option but --queue has an environment variable (NETPROOF_REDIS_URL, NETPROOF_DATABASE_URL,
    NETPROOF_DATA_DIR); options win.
    """
    chosen = settings(redis_url=redis, database_url=database, data_dir=data_dir)
    from service.connections import PROMPT, connect
    from service.logs import start_logging

    start_logging("worker", chosen.log_format)
    with deployment_faults(chosen):
        connect(chosen.queue_url, retries=PROMPT).ping()  # before seconds of imports

        from service.worker import main

        main(chosen, queues)
    return 0
