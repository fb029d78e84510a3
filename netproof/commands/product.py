"""``netproof product``: the networks that `netproof compare` and `netproof monotone` are about."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from netproof.commands.question import FILE
from netproof.commands.values import NEW_FILE

__all__ = ["product"]

OUT = click.option("-o", "--out", type=NEW_FILE, required=True, help="File to write.")


@click.group(short_help="Write the network of a comparison.")
def product() -> None:
    """Write the product network that a comparison's evidence is about, and print its sha256.

    It depends on the given files alone and is the same on every machine, so an auditor needs no copy of it.
    """


@product.command(short_help="Of two networks that are compared.")
@click.argument("first", type=FILE)
@click.argument("second", type=FILE)
@click.option("--decision", is_flag=True, help="As compare without --within builds it.")
@OUT
def equivalence(*, first: Path, second: Path, decision: bool, out: Path) -> int:
    """Write the network whose outputs are those of FIRST and then those of SECOND."""
    from networks import equivalence_model, load

    models = [load(path, compare=False).model for path in (first, second)]
    return _write(equivalence_model(*models, paired=False if decision else None), out)


@product.command(short_help="Of one network whose input is raised.")
@click.argument("network", type=FILE)
@click.option("--input", "raised", type=click.IntRange(min=0), required=True, help="Which input entry is raised.")
@OUT
def monotone(*, network: Path, raised: int, out: Path) -> int:
    """Write the network whose last input is the raised value, and whose outputs are those before and after."""
    from networks import load, monotone_model

    return _write(monotone_model(load(network, compare=False).model, raised), out)


def _write(model: bytes, out: Path) -> int:
    out.write_bytes(model)
    click.echo(f"{hashlib.sha256(model).hexdigest()}  {out}")
    return 0
