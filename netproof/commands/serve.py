"""``netproof serve``: the HTTP service, with its queue and workers."""

from __future__ import annotations

from pathlib import Path

import click

from netproof.commands.service import deployment_faults, settings

__all__ = ["serve"]


@click.command(short_help="Run the HTTP service.")
@click.option("--redis", metavar="URL", help="Redis or Valkey; default: an embedded server in the data directory.")
@click.option("--database", metavar="URL", help="SQLAlchemy URL of the ledger; default: SQLite in the data directory.")
@click.option("--workers", type=click.IntRange(min=0), help="Worker processes to start; default: 2.")
@click.option("--host", help="Address to listen on; default: 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on, 0 for any; default: 8000.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where ledger, artifacts and logs live; default: ~/.local/share/netproof.",
)
def serve(
    *,
    redis: str | None,
    database: str | None,
    workers: int | None,
    host: str | None,
    port: int | None,
    data_dir: Path | None,
) -> int:
    """Serve POST /verify and the rest of the API until interrupted.

    Every option has an environment variable (NETPROOF_REDIS_URL, NETPROOF_DATABASE_URL, NETPROOF_WORKERS,
    NETPROOF_HOST, NETPROOF_PORT, NETPROOF_DATA_DIR); options win. The URL is printed to stdout, the log to stderr.
    """
    chosen = settings(redis_url=redis, database_url=database, workers=workers, host=host, port=port, data_dir=data_dir)
    from service.logs import start_logging
    from service.supervisor import serve as run

    start_logging("serve", chosen.log_format)
    with deployment_faults(chosen):
        run(chosen, ready=lambda url: click.echo(f"netproof serves at {url}"))
    return 0
