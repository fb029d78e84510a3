"""``netproof submit``, ``status`` and ``watch``: questions to a service elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netproof.commands.question import FILE, members, question_options
from netproof.commands.values import SECONDS

if TYPE_CHECKING:
    from netproof.client import Client, Job

__all__ = ["connect", "server_option", "status", "submit", "watch"]

#: Verdicts and states of jobs as exit codes: those of ``netproof verify``, and a job that ended without a verdict.
EXIT_CODES = {"robust": 0, "counterexample": 1, "unknown": 3}
FAILED = 70

_server = click.option(
    "--server",
    metavar="URL",
    envvar="NETPROOF_SERVER",
    default="http://127.0.0.1:8000",
    show_default=True,
    help="The service; also NETPROOF_SERVER.",
)


def _remember_key(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is not None:
        ctx.meta["netproof.api_key"] = path.read_text().strip()


_key_file = click.option(
    "--api-key-file",
    type=FILE,
    metavar="FILE",
    expose_value=False,
    callback=_remember_key,
    help="File with the key to show; otherwise NETPROOF_API_KEY.",
)


def server_option(command: Callable[..., int]) -> Callable[..., int]:
    """Options of commands that ask a service; keys come by file or environment, never as arguments, which all see."""
    return _server(_key_file(command))


def connect(server: str) -> Client:
    """A client of the service at ``server``, with the key that the command was given."""
    from netproof.client import Client

    return Client(server, api_key=click.get_current_context().meta.get("netproof.api_key"))


@click.command(short_help="Send a query to a service.")
@click.argument("network", type=FILE)
@click.argument("spec", type=FILE, required=False)
@question_options
@click.option("--timeout", type=SECONDS, metavar="SECONDS", help="Time for the decision.")
@click.option("--priority", type=click.Choice(["low", "normal", "high"]), default="normal", show_default=True)
@click.option("--certificate", is_flag=True, help="Have a robust verdict proven to the independent checker.")
@click.option("--fresh", is_flag=True, help="Decide anew, whatever answers the service has.")
@server_option
def submit(
    *,
    network: Path,
    spec: Path | None,
    timeout: float | None,
    priority: str,
    certificate: bool,
    fresh: bool,
    server: str,
    **options: Any,
) -> int:
    """Send one query about NETWORK (ONNX), stated as for `netproof verify`, and print the job's identifier.

    `netproof watch JOB` waits for the verdict.
    """
    stated = members(spec, **options)
    with connect(server) as client:
        job = client.verify(
            network,
            **stated,
            time_limit=timeout,
            priority=priority,
            certificate=certificate,
            reuse=not fresh,
            wait=False,
        )
    click.echo(job.id)
    return 0


@click.command(short_help="Show a job of a service.")
@click.argument("job")
@server_option
@click.option("--json", "as_json", is_flag=True, help="The job as one JSON object.")
def status(*, job: str, server: str, as_json: bool) -> int:
    """Show how far the job is, without waiting."""
    with connect(server) as client:
        found = client.job(job)
    return _report(found, as_json=as_json)


@click.command(
    short_help="Wait for a job of a service.",
    epilog="Exit codes: 0 robust, 1 counterexample, 3 unknown or cancelled, 70 the job failed, 2 bad input or usage.",
)
@click.argument("job")
@server_option
@click.option("--json", "as_json", is_flag=True, help="The job as one JSON object.")
def watch(*, job: str, server: str, as_json: bool) -> int:
    """Wait until the job ends and print its verdict; bounds so far go to stderr."""
    with connect(server) as client:
        for event in client.events(job):
            if event.name == "progress":
                click.echo(_bounds(event.data), err=True)
        found = client.job(job)
    return _report(found, as_json=as_json)


def _report(job: Job, *, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps(job.document))
    else:
        click.echo(_line(job))
    if not job.ended:
        return 0
    return FAILED if job.verdict is None and job.state == "failed" else EXIT_CODES.get(str(job.verdict), 3)


def _line(job: Job) -> str:
    if job.error is not None:
        return f"{job.id} failed: {job.error.get('detail') or job.error['title']}"
    if job.verdict is None:
        known = f"; {_bounds(job.progress)}" if job.progress else ""
        return f"{job.id} {job.state}{known}"
    trust = f" ({job.trust})" if job.trust else f" ({job.reason})"
    name, (lower, upper) = ("distance", job.distance) if job.kind == "distance" else ("margin", job.margin)
    return f"{job.id} {job.state}: {job.verdict}{trust}, {name} {_number(lower)} to {_number(upper)}"


def _bounds(progress: dict[str, Any]) -> str:
    name = next(name for name in ("margin", "distance", "flips") if progress.get(name))
    lower, upper = progress[name]
    return f"{progress['stage']}: {name} {_number(lower)} to {_number(upper)}, {progress['seconds']:.1f} s"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.6g}"
