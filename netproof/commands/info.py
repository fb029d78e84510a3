"""``netproof info``: what a network file holds, as netproof reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from networks import Network

__all__ = ["describe", "info"]


@click.command(short_help="Show a network as netproof reads it.")
@click.argument("network", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def info(*, network: Path, as_json: bool) -> int:
    """Show NETWORK (ONNX, also .onnx.gz) as netproof reads it: layers, shapes, ReLUs, notes and sha256."""
    from networks import load

    facts = describe(load(network))
    if as_json:
        click.echo(json.dumps(facts))
        return 0
    click.echo(f"{click.style(facts['name'], bold=True)}")
    click.echo(f"  sha256      {facts['sha256']}")
    click.echo(f"  input       {_shape(facts['input_shape'])}   output {_shape(facts['output_shape'])}")
    click.echo(f"  ReLUs       {facts['relus']:,}")
    click.echo(f"  parameters  {facts['parameters']:,}")
    for note in facts["notes"]:
        click.echo(f"  note        {note}")
    click.echo()
    rows = [(str(n["index"]), n["kind"], _shape(n["shape"]), ", ".join(map(str, n["parents"]))) for n in facts["nodes"]]
    header = ("node", "kind", "shape", "from")
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(4)]
    for row in (header, *rows):
        click.echo("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def describe(network: Network) -> dict[str, Any]:
    """The facts about ``network`` that the command prints, in JSON."""
    from networks.graph import AffineNode, InputNode

    nodes = []
    for index, node in enumerate(network.nodes):
        parents: tuple[int, ...] = ()
        if isinstance(node, InputNode):
            kind = "input"
        elif isinstance(node, AffineNode):
            kind = "affine (" + " + ".join(type(linear).__name__ for _, linear in node.terms) + ")"
            parents = node.parents
        else:
            kind, parents = "relu", node.parents
        nodes.append({"index": index, "kind": kind, "shape": list(node.shape), "parents": list(parents)})
    return {
        "name": network.name,
        "sha256": network.sha256,
        "input_shape": list(network.input_shape),
        "output_shape": list(network.output_shape),
        "inputs": network.inputs,
        "outputs": network.outputs,
        "relus": network.relus,
        "parameters": network.parameters,
        "notes": list(network.notes),
        "nodes": nodes,
    }


def _shape(shape: list[int]) -> str:
    return "×".join(map(str, shape)) or "scalar"
