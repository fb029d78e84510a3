"""``netproof ranges``: how far outputs go over a region."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netproof.commands.deciding import search_options
from netproof.commands.question import FILE, classes, numbers, region, region_options

if TYPE_CHECKING:
    from netproof.ranging import Range

__all__ = ["ranges"]


@click.command(
    short_help="Find the ranges of outputs over a region.",
    epilog="""
Exit codes: 0 every range is as narrow as asked, 3 some are not (also after Ctrl-C), 2 bad input or usage.

\b
Example:
  netproof ranges digits.onnx --data digits.npz --index 7 --eps 0.05 --domain 0 1 --outputs 3,8
""",
)
@click.argument("network", type=FILE)
@click.option("--outputs", metavar="OUTPUTS", callback=classes, help="Such as 3,8; default: all.")
@region_options
@click.option("--tolerance", metavar="NUMBER", callback=numbers, help="How far the ends of each answer may be apart.")
@search_options
def ranges(
    *,
    network: Path,
    outputs: Sequence[int] | None,
    tolerance: str | None,
    timeout: float,
    engine: str,
    backend: str,
    threads: int | None,
    seed: int,
    as_json: bool,
    **stated: Any,
) -> int:
    """Find the least and the greatest value that each output of NETWORK (ONNX) takes on a region.

    Each of the two comes as an interval: beyond its outer end the output is proven not to go, and its inner end was
    replayed in ONNX Runtime. --timeout is for each of them.
    """
    asked = region(**stated) | ({} if tolerance is None else {"tolerance": tolerance})

    from netproof import foreground
    from netproof.ranging import ranges as run
    from networks import load

    loaded = load(network)
    chosen = list(range(loaded.outputs) if outputs is None else outputs)
    found = foreground.run(
        lambda progress, cancel: list(
            run(
                loaded,
                outputs=chosen,
                time_limit=timeout,
                engine=engine,
                backend=backend,
                threads=threads,
                seed=seed,
                progress=progress,
                cancel=cancel,
                **asked,
            )
        ),
        2 * timeout * len(chosen),
        keeping="the ranges so far",
    )
    if as_json:
        identity = {"network": {"name": loaded.name, "sha256": loaded.sha256}}
        click.echo(json.dumps(identity | {"ranges": [each.to_json() for each in found]}))
    else:
        click.echo(_table(found))
    complete = len(found) == len(chosen)
    return 0 if complete and not any(end.reason for each in found for end in (each.least, each.greatest)) else 3


def _table(found: Sequence[Range]) -> str:
    """One line for each output: proven and replayed ends."""
    from netproof.report_intervals import digits

    rows: list[tuple[str, ...]] = [("output", "proven ≥", "replayed", "replayed", "proven ≤", "seconds")]
    for each in found:
        low, high = (digits(end, up=up) for end, up in zip(each.enclosure, (False, True), strict=True))
        least, greatest = (digits(end, up=up) for end, up in zip(each.attained, (True, False), strict=True))
        seconds = each.least.seconds + each.greatest.seconds
        rows.append((str(each.output), low, least, greatest, high, f"{seconds:.2f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([click.style(lines[0], dim=True), *lines[1:]])
