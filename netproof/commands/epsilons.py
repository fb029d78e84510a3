"""``netproof epsilons``: up to which ε inputs of a data set are certified."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netproof.commands.deciding import search_options
from netproof.commands.question import FILE, NORMS, domain_option, inputs_options, numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netproof.certified_radii import CertifiedRadius

__all__ = ["epsilons"]


@click.command(
    short_help="Find up to which ε inputs are robust.",
    epilog="""
Exit codes: 0 every ε is as near to the largest as asked, 3 some are not (also after Ctrl-C), 2 bad input or usage.

\b
Examples:
  netproof epsilons digits.onnx --data digits.npz --first 10 --domain 0 1
  netproof epsilons digits.onnx --data digits.npz --first 100 --domain 0 1 --norm l2 --engine bounds
""",
)
@click.argument("network", type=FILE)
@inputs_options
@click.option(
    "--epsilon",
    "--eps",
    "epsilon",
    metavar="NUMBER",
    callback=numbers,
    help="The largest that is looked at; default: as far as the domain goes.",
)
@click.option("--norm", type=click.Choice(NORMS), default="linf", show_default=True, help="Norm of the balls.")
@domain_option()
@click.option("--tolerance", metavar="NUMBER", callback=numbers, help="How far below the largest ε it may stay.")
@search_options
def epsilons(
    *,
    network: Path,
    data: Path,
    first: int,
    epsilon: str | None,
    norm: str,
    domain: tuple[str, str] | None,
    tolerance: str | None,
    timeout: float,
    engine: str,
    backend: str,
    threads: int | None,
    seed: int,
    as_json: bool,
) -> int:
    """Find for inputs of a data set the largest EPS up to which NETWORK (ONNX) provably keeps their class.

    With --engine bounds, what bounds alone prove. --timeout is for each input.
    """
    from netproof import foreground
    from netproof.certified_radii import largest_epsilons

    found = foreground.run(
        lambda _progress, cancel: list(
            largest_epsilons(
                network,
                data,
                range(first),
                epsilon=epsilon,
                norm=norm,
                domain=domain,
                tolerance=tolerance,
                time_limit=timeout,
                engine=engine,
                backend=backend,
                threads=threads,
                seed=seed,
                cancel=cancel,
            )
        ),
        timeout * first,
        keeping="those so far",
    )
    if as_json:
        click.echo(json.dumps({"norm": norm, "inputs": [each.to_json() for each in found]}))
    else:
        click.echo(_table(found, norm))
    # Bounds alone prove what they prove, and nothing is missing then.
    enough = {None, "incomplete"} if engine == "bounds" else {None}
    return 0 if len(found) == first and all(each.verdict.reason in enough for each in found) else 3


def _table(found: Sequence[CertifiedRadius], norm: str) -> str:
    """One line for each input, and the mean."""
    from netproof.report_intervals import digits

    lines = [click.style(f"index  label  {'certified ε':>12}  seconds", dim=True)]
    for each in found:
        reason = f"  {each.verdict.reason}" if each.verdict.reason else ""
        shown = digits(each.epsilon, up=False)
        lines.append(f"{each.index:>5}  {each.label:>5}  {shown:>12}  {each.verdict.seconds:7.2f}{reason}")
    if found:
        values = [each.epsilon for each in found]
        lines.append(f"{norm}: mean {statistics.mean(values):.6g}, median {statistics.median(values):.6g}")
    return "\n".join(lines)
