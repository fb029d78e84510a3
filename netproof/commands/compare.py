"""``netproof compare``: whether two networks agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from netproof.commands.deciding import decide, decision_options, keep_product, product_option, split
from netproof.commands.question import FILE, kind_options, numbers, region, region_options

__all__ = ["compare"]


@click.command(
    short_help="Decide whether two networks agree.",
    epilog="""
Exit codes: 0 they agree on the whole region, 1 they do not, 3 unknown, 2 bad input or usage, or no place for
the evidence.

\b
Examples:
  netproof compare digits.onnx digits_float16.onnx --data digits.npz --index 7 --eps 0.05 --domain 0 1
  netproof compare old.onnx new.onnx --box 0 1 --within 0.01
  netproof compare old.onnx new.onnx --box 0 1 --within 1 --kind margin
""",
)
@click.argument("first", type=FILE)
@click.argument("second", type=FILE)
@click.option(
    "--within",
    metavar="NUMBER",
    callback=numbers,
    help="All outputs must differ by less than that; default: both must decide for the same class.",
)
@region_options
@kind_options
@product_option
@decision_options
def compare(*, first: Path, second: Path, within: str | None, product: Path | None, **options: Any) -> int:
    """Decide whether FIRST and SECOND (ONNX) agree on every input of a region.

    --kind margin asks how far they stay from disagreeing. The verdict's counterexample and certificate are about the
    product network, which computes both; --product writes it.
    """
    stated, how = split(options)
    asked = region(**stated) | {"equivalent_to": {"network": second, "within": within}}

    from networks import load
    from solver import pose

    question = pose(load(first), **asked)
    keep_product(question, product)
    return decide(question, **how)
