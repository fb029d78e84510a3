"""``netproof batch``: many inputs at once, decided by a service elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netproof.commands.audit import selected_range
from netproof.commands.deciding import BACKENDS, ENGINES
from netproof.commands.question import FILE, NORMS, domain_option, numbers, scaled_domain
from netproof.commands.remote import connect, server_option
from netproof.commands.values import NEW_FILE, SECONDS

if TYPE_CHECKING:
    from netproof.client import Batch

__all__ = ["batch"]

UNDECIDED = 3


@click.group(short_help="Ask a service about many inputs.")
def batch() -> None:
    """Batches: one question about many inputs of a data set, worked off by a service's workers.

    \b
    netproof batch submit net.onnx --data test.npz --eps 0.1 --domain 0 1 --first 1000
    netproof batch watch BATCH
    netproof batch export BATCH records.csv
    """


@batch.command(short_help="Send a batch.")
@click.argument("network", type=FILE)
@click.option("--data", type=FILE, required=True, help="Data set: .npz with images and labels, or CSV.")
@click.option(
    "--epsilon",
    "--eps",
    "epsilons",
    metavar="NUMBER",
    required=True,
    multiple=True,
    callback=numbers,
    help="Radius of the balls, such as 0.1 or 8/255; repeat it for a curve.",
)
@click.option("--norm", type=click.Choice(NORMS), help="Norm of the balls.")
@domain_option("Least and greatest value of an entry.")
@click.option("--query", type=FILE, help="JSON object with further members of the question, such as top_k or kind.")
@click.option("--first", type=click.IntRange(min=1), metavar="N", help="Only inputs 0 to N-1.")
@click.option("--indices", metavar="A:B", callback=selected_range, help="Only inputs A to B-1.")
@click.option("--timeout", type=SECONDS, metavar="SECONDS", help="Time for each item.")
@click.option("--total", type=SECONDS, metavar="SECONDS", help="Of solving, for them all.")
@click.option("--engine", type=click.Choice(ENGINES), default="auto", show_default=True, help="What may decide.")
@click.option("--backend", type=click.Choice(BACKENDS), default="auto", show_default=True, help="MIP solver.")
@click.option("--priority", type=click.Choice(["low", "normal", "high"]), default="low", show_default=True)
@click.option("--certificates", is_flag=True, help="Have robust verdicts proven to the independent checker.")
@click.option("--fresh", is_flag=True, help="Decide anew, whatever answers the service has.")
@click.option("--name", default="", help="For lists.")
@server_option
def submit(
    *,
    network: Path,
    data: Path,
    epsilons: tuple[str, ...],
    norm: str | None,
    domain: tuple[str, str] | None,
    query: Path | None,
    first: int | None,
    indices: slice | None,
    timeout: float | None,
    total: float | None,
    engine: str,
    backend: str,
    priority: str,
    certificates: bool,
    fresh: bool,
    name: str,
    server: str,
) -> int:
    """Send a batch about NETWORK (ONNX) and print its identifier; network and data are uploaded once."""
    if first is not None and indices is not None:
        msg = "--first and --indices both say which inputs; give one of them"
        raise click.UsageError(msg)
    chosen = indices or slice(0, first)
    further = {} if query is None else _members(query)
    with connect(server) as client:
        dataset = client.batches.upload_dataset(data)
        domain = scaled_domain(domain, dataset["dtype"])
        made = client.batches.submit(
            network,
            dataset["sha256"],
            epsilon=epsilons if len(epsilons) > 1 else epsilons[0],
            **({"norm": norm, "domain": domain} | further),
            begin=chosen.start or 0,
            end=chosen.stop,
            time_limit=timeout,
            total_limit=total,
            engine=engine,
            backend=backend,
            priority=priority,
            certificate=certificates,
            reuse=not fresh,
            name=name,
        )
    click.echo(made.id)
    return 0


_json_option = click.option("--json", "as_json", is_flag=True, help="The batch as one JSON object.")


@batch.command(short_help="Show a batch.")
@click.argument("batch_id", metavar="BATCH")
@server_option
@_json_option
def status(*, batch_id: str, server: str, as_json: bool) -> int:
    """Show how far a batch is, without waiting."""
    with connect(server) as client:
        found = client.batches.get(batch_id)
    click.echo(json.dumps(found.document) if as_json else _shown(found))
    return 0


@batch.command(
    short_help="Wait for a batch.",
    epilog="Exit codes: 0 every item was decided, 3 some are not, 2 bad input or usage.",
)
@click.argument("batch_id", metavar="BATCH")
@server_option
@_json_option
def watch(*, batch_id: str, server: str, as_json: bool) -> int:
    """Wait until a batch ends and print what it came to; its progress goes to stderr."""
    last = ""

    def tell(now: Batch) -> None:
        nonlocal last
        line = _line(now)
        if line != last and not now.ended:
            click.echo(line, err=True)
        last = line

    with connect(server) as client:
        found = client.batches.wait(batch_id, progress=tell)
    click.echo(json.dumps(found.document) if as_json else _shown(found))
    return 0 if found.undecided == 0 else UNDECIDED


@batch.command("list", short_help="List batches.")
@server_option
def list_(*, server: str) -> int:
    """List the newest batches."""
    with connect(server) as client:
        for _, found in zip(range(20), client.batches.list(), strict=False):
            click.echo(f"{found.id}  {_line(found)}  {found.document['name']}".rstrip())
    return 0


@batch.command(short_help="Write a batch's items to a file.")
@click.argument("batch_id", metavar="BATCH")
@click.argument("out", type=NEW_FILE)
@server_option
def export(*, batch_id: str, out: Path, server: str) -> int:
    """Write all items to OUT: .csv, .jsonl or .parquet, by its suffix."""
    with connect(server) as client:
        client.batches.export(batch_id, out)
    return 0


@batch.command(short_help="Stop a batch.")
@click.argument("batch_id", metavar="BATCH")
@server_option
def cancel(*, batch_id: str, server: str) -> int:
    """Stop a batch; what is finished stays."""
    with connect(server) as client:
        click.echo(_line(client.batches.cancel(batch_id)))
    return 0


@batch.command(short_help="Go on with a batch.")
@click.argument("batch_id", metavar="BATCH")
@click.option("--total", type=SECONDS, metavar="SECONDS", help="A new budget for it all.")
@server_option
def resume(*, batch_id: str, total: float | None, server: str) -> int:
    """Go on with a batch that was stopped or has spent its budget; nothing finished is done again."""
    with connect(server) as client:
        click.echo(_line(client.batches.resume(batch_id, total_limit=total)))
    return 0


@batch.command(short_help="Try again what failed or is unknown.")
@click.argument("batch_id", metavar="BATCH")
@click.option("--timeout", type=SECONDS, metavar="SECONDS", help="Time for each item.")
@click.option("--failed-only", is_flag=True, help="Leave alone what ended unknown.")
@server_option
def retry(*, batch_id: str, timeout: float | None, failed_only: bool, server: str) -> int:
    """Search again for what failed or stayed unknown, perhaps with more time."""
    with connect(server) as client:
        click.echo(_line(client.batches.retry(batch_id, time_limit=timeout, unknown=not failed_only)))
    return 0


def _members(path: Path) -> dict[str, Any]:
    """The members of a question that a JSON file holds."""
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        msg = f"{path} is not JSON: {error}"
        raise click.UsageError(msg) from error
    if not isinstance(found, dict) or "epsilon" in found:
        msg = f"{path} must hold one JSON object with members of a question; epsilon is given by --eps"
        raise click.UsageError(msg)
    return found


def _line(found: Batch) -> str:
    counts = found.counts
    done = counts["done"] + counts["failed"]
    parts = [f"{found.state} {done}/{found.items}"]
    parts += [f"robust {counts['robust']}", f"not {counts['counterexample']}", f"unknown {counts['unknown']}"]
    if counts["failed"]:
        parts.append(f"failed {counts['failed']}")
    estimate = found.seconds_left
    if estimate is not None:
        seconds, at_most = estimate
        parts.append(f"{'at most' if at_most else 'about'} {seconds:.0f} s left")
    return "  ".join(parts)


def _shown(found: Batch) -> str:
    lines = [_line(found)]
    for epsilon, low, high in found.curve:
        share = f"{low:.2%}" if high - low < 1e-12 else f"between {low:.2%} and {high:.2%}"
        lines.append(f"  robust accuracy at {epsilon:<8} {share}")
    counts = found.counts
    lines.append(
        f"  {counts['misclassified']} misclassified as they are, {counts['certified']} certified, "
        f"{counts['cached']} taken from other answers, {found.document['seconds']:.1f} s of solving"
    )
    return "\n".join(lines)
