"""``netproof worker``: one worker process, for a queue that a service elsewhere fills."""

from __future__ import annotations

from pathlib import Path

import click

from netproof.commands.settings import settings

__all__ = ["worker"]


@click.command()
@click.option("--queue", "queues", multiple=True, required=True, metavar="NAME", help="Queue to serve, such as highs.")
@click.option("--redis", metavar="URL", help="Redis or Valkey that the service uses.")
@click.option("--database", metavar="URL", help="SQLAlchemy URL of the service's ledger.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="The service's data directory; artifacts must be reachable there.",
)
def worker(*, queues: tuple[str, ...], redis: str | None, database: str | None, data_dir: Path | None) -> int:
    """Run one worker until interrupted; --queue may be repeated, the first has priority.

    Every option but --queue has an environment variable (NETPROOF_REDIS_URL, NETPROOF_DATABASE_URL, NETPROOF_DATA_DIR);
    options win.
    """
    chosen = settings(redis_url=redis, database_url=database, data_dir=data_dir)
    from service import worker as service_worker

    return service_worker.main(chosen, queues)
