"""``netproof audit``: many inputs of a data set, one verdict each."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netproof.commands.deciding import BACKENDS, ENGINES
from netproof.commands.question import FILE, NORMS, domain_option, numbers
from netproof.commands.values import NEW_FILE, SECONDS

if TYPE_CHECKING:
    from netproof.auditing import Audit

__all__ = ["audit", "selected_range"]

UNDECIDED = 3
RANGE = re.compile(r"(\d{0,12}):(\d{0,12})")


def selected_range(_ctx: click.Context, _option: click.Parameter, value: str | None) -> slice | None:
    """A callback that reads ``A:B``, the first index and the one after the last."""
    if value is None:
        return None
    found = RANGE.fullmatch(value)
    if found is None:
        msg = f"expected A:B, the first index and the one after the last, such as 100:200, got {value!r}"
        raise click.BadParameter(msg)
    begin, end = found.groups()
    return slice(int(begin or 0), int(end) if end else None)


@click.command(
    short_help="Decide many inputs of a data set.",
    epilog="""
Exit codes: 0 every input was decided (robust or not), 3 some are unknown (also after Ctrl-C), 2 bad input or usage.

\b
Examples:
  netproof audit digits.onnx --data digits.npz --eps 0.05 --domain 0 1
  netproof audit mnist.onnx --data mnist.npz --eps 0.1 --first 1000 --out records.jsonl --resume
  netproof audit --records records.jsonl --data mnist.npz --report page.html
""",
)
@click.argument("network", type=FILE, required=False)
@click.option("--data", type=FILE, help="Data set: .npz with images and labels, or CSV.")
@click.option(
    "--epsilon",
    "--eps",
    "eps",
    metavar="NUMBER",
    callback=numbers,
    help="Radius of the ball around each input, such as 0.1 or 8/255.",
)
@click.option("--norm", type=click.Choice(NORMS), default="linf", show_default=True, help="Norm of the ball.")
@domain_option()
@click.option("--first", type=click.IntRange(min=1), metavar="N", help="Only inputs 0 to N-1.")
@click.option("--indices", metavar="A:B", callback=selected_range, help="Only inputs A to B-1.")
@click.option(
    "--out",
    type=NEW_FILE,
    help="Write one JSON line for each input to this file, as they come.",
)
@click.option("--resume", is_flag=True, help="Continue the file of --out: what has a record is not decided again.")
@click.option(
    "--report",
    "page",
    type=NEW_FILE,
    metavar="FILE.html",
    help="Write the results as one page with drawings and pictures, which needs no network.",
)
@click.option(
    "--records",
    type=FILE,
    help="Decide nothing: only write --report, from the records of an earlier --out or of an exported batch.",
)
@click.option(
    "--certificates",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Prove each robust verdict to the independent checker, and write the certificates to this folder.",
)
@click.option(
    "--timeout",
    type=SECONDS,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for each input.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes; default: one for each core.")
@click.option("--engine", type=click.Choice(ENGINES), default="auto", show_default=True, help="What may decide.")
@click.option("--backend", type=click.Choice(BACKENDS), default="auto", show_default=True, help="MIP solver.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the attacks' randomness.")
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object on stdout.")
def audit(
    *,
    network: Path | None,
    data: Path | None,
    eps: str | None,
    norm: str,
    domain: tuple[str, str] | None,
    first: int | None,
    indices: slice | None,
    out: Path | None,
    resume: bool,
    page: Path | None,
    records: Path | None,
    certificates: Path | None,
    timeout: float,
    workers: int | None,
    engine: str,
    backend: str,
    seed: int,
    as_json: bool,
) -> int:
    """Decide for many inputs of a data set whether NETWORK (ONNX) keeps their class within EPS.

    Every input is swept with bounds and a short attack; what stays open then gets an exact search of its own. Without
    --first or --indices, all inputs of the data set are asked about.
    """
    if records is not None:
        return _page_of(records, data, page, network)
    if network is None or data is None or eps is None:
        missing = [name for name, value in (("NETWORK", network), ("--data", data), ("--eps", eps)) if value is None]
        msg = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        raise click.UsageError(msg)
    if first is not None and indices is not None:
        msg = "--first and --indices both say which inputs; give one of them"
        raise click.UsageError(msg)
    if resume and out is None:
        msg = "--resume continues the file of --out, which is missing"
        raise click.UsageError(msg)

    from netproof import foreground
    from netproof.audit_bar import audit_bar
    from netproof.auditing import audit as run
    from networks import load, read_dataset
    from solver.hints import domain_hint

    loaded = load(network)
    dataset = read_dataset(data)
    if domain is None and dataset.stored.dtype == "uint8":
        click.echo("the data set holds uint8 images: divided by 255, domain [0, 1]", err=True)
    result = foreground.run(
        lambda progress, cancel: run(
            loaded,
            dataset,
            eps,
            norm=norm,
            domain=domain,
            indices=_selected(len(dataset), first, indices),
            out=out,
            resume=resume,
            certificates=certificates,
            time_limit=timeout,
            workers=workers,
            engine=engine,
            backend=backend,
            seed=seed,
            progress=progress,
            cancel=cancel,
        ),
        timeout,
        bar=audit_bar(),
        keeping="the records so far" if out is not None else "the counts so far",
    )
    if page is not None:
        from netproof.audit_page import write_audit_page
        from solver.audit import Ball
        from solver.records import heading

        shown_domain = (0, 1) if domain is None and dataset.stored.dtype == "uint8" else domain
        asked = heading(loaded, dataset, Ball(eps, norm, shown_domain))
        write_audit_page(page, result.records, asked=asked, dataset=dataset, total=result.tally.total)
    if as_json:
        identity = {
            "network": {"name": loaded.name, "sha256": loaded.sha256},
            "data": {"name": dataset.name, "sha256": dataset.sha256},
            "epsilon": eps,
            "norm": norm,
        }
        click.echo(json.dumps(result.summary | identity))
    else:
        click.echo(_report(result, out, certificates, page))
        if hint := domain_hint({"norm": norm, "epsilon": eps, **({"domain": domain} if domain else {})}):
            click.echo(f"  note               {hint}")
    return 0 if result.complete else UNDECIDED


def _page_of(records: Path, data: Path | None, page: Path | None, network: Path | None) -> int:
    """Write the report of records that are there already."""
    if page is None:
        msg = "--records is what --report is made of, which is missing; name the page to write"
        raise click.UsageError(msg)
    if network is not None:
        msg = f"with --records nothing is decided, so {network} is not needed; leave it out"
        raise click.UsageError(msg)

    from netproof.audit_page import write_audit_page
    from networks import read_dataset
    from solver.records import read_records

    asked, found = read_records(records)
    write_audit_page(page, found, asked=asked, dataset=None if data is None else read_dataset(data))
    click.echo(f"{len(found)} records: {page}")
    return 0


def _selected(size: int, first: int | None, indices: slice | None) -> range:
    """The indices that were asked for; those that do not exist are refused later, not dropped."""
    if first is not None:
        return range(first)
    if indices is not None:
        return range(indices.start, size if indices.stop is None else indices.stop)
    return range(size)


def _report(result: Audit, out: Path | None, certificates: Path | None, page: Path | None) -> str:
    """The summary in words."""
    tally, summary = result.tally, result.summary
    seconds: dict[str, Any] = summary["seconds"]
    missing = tally.total - tally.done
    counts = [
        click.style(f"{tally.counts['robust']} robust", fg="green"),
        click.style(f"{tally.counts['counterexample']} not robust", fg="red")
        + f" ({tally.misclassified} misclassified as they are)" * bool(tally.misclassified),
        click.style(f"{tally.counts['unknown']} unknown", fg="yellow" if tally.counts["unknown"] else None),
    ]
    if missing:
        counts.append(f"{missing} left")
    lines = [f"{tally.total} inputs: {', '.join(counts)}  in {result.wall:.1f} s"]
    lines.append(f"  adversarial error  {_share(tally.adversarial_error)}")
    lines.append(f"  robust accuracy    {_share(tally.robust_accuracy)}")
    if 2 * tally.misclassified > tally.done:
        lines.append("  note               most inputs are misclassified as they are: do labels, scale and axes fit?")
    if certificates is not None:
        lines.append(f"  certified          {_certified(result)}")
    if tally.done:
        lines.append(
            f"  seconds per input  median {seconds['median']:.3g}, mean {seconds['mean']:.3g}, "
            f"max {seconds['max']:.3g}, sum {seconds['sum']:.1f}"
        )
        slowest = (f"{each['index']} ({each['seconds']:.3g} s, {each['verdict']})" for each in summary["slowest"])
        lines.append(f"  slowest            {', '.join(slowest)}")
    if out is not None:
        lines.append(f"  records            {out}")
    if certificates is not None:
        lines.append(f"  certificates       {certificates}")
    if page is not None:
        lines.append(f"  report             {page}")
    return "\n".join(lines)


def _certified(result: Audit) -> str:
    """How much of the result somebody else can check, and what that takes."""
    tally, facts = result.tally, result.summary["certificates"]
    text = f"{tally.certified.total()} of {tally.counts['robust']} robust, {facts['float32']} of them for float32 too"
    if tally.sizes:
        sizes = f"median {facts['median_bytes']:,} bytes, sum {facts['bytes']:,}"
        text += f"; {sizes}, checked in {facts['check_seconds']:.1f} s"
    return text


def _share(interval: tuple[float, float]) -> str:
    low, high = interval
    if high - low < 1e-12:
        return f"{low:.2%}"
    return f"between {low:.2%} and {high:.2%}"
