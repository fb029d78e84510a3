"""``netproof monotone``: whether raising one input entry never lowers an output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from netproof.commands.deciding import decide, decision_options, keep_product, product_option, split
from netproof.commands.question import FILE, kind_options, numbers, region, region_options

__all__ = ["monotone"]


@click.command(
    short_help="Decide whether an output is monotone in an input.",
    epilog="""
Exit codes: 0 it is on the whole region, 1 it is not, 3 unknown, 2 bad input or usage, or no place for
the evidence.

\b
Example:
  netproof monotone collins_rul.onnx --input 3 --direction decreasing --within 0.01 --box lower.npy upper.npy
""",
)
@click.argument("network", type=FILE)
@click.option("--input", "raised", type=click.IntRange(min=0), required=True, help="Which input entry is raised.")
@click.option("--output", type=click.IntRange(min=0), default=0, show_default=True, help="Which output is looked at.")
@click.option(
    "--direction",
    type=click.Choice(["increasing", "decreasing"]),
    default="increasing",
    show_default=True,
    help="Whether the output must not fall, or not rise.",
)
@click.option(
    "--within",
    metavar="NUMBER",
    required=True,
    callback=numbers,
    help="By how much it may do so, less than that; above 0.",
)
@region_options
@kind_options
@product_option
@decision_options
def monotone(
    *, network: Path, raised: int, output: int, direction: str, within: str, product: Path | None, **options: Any
) -> int:
    """Decide whether an output of NETWORK (ONNX) never falls as one input entry alone is raised within a region.

    The verdict's counterexample and certificate are about the product network, whose last input entry is the raised
    value and whose outputs are those before and after; --product writes it.
    """
    stated, how = split(options)
    asked = {"input": raised, "output": output, "direction": direction, "within": within}

    from networks import load
    from solver import pose

    question = pose(load(network), **region(**stated), monotone=asked)
    keep_product(question, product)
    return decide(question, **how)
