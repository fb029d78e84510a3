"""``netproof verify``: one question, one verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from netproof.commands.deciding import decide, decision_options, split
from netproof.commands.question import FILE, members, question_options
from netproof.commands.values import NEW_FILE

__all__ = ["verify"]


@click.command(
    short_help="Answer one question about a network.",
    epilog="""
Exit codes: 0 robust, 1 counterexample, 3 unknown (also after Ctrl-C), 2 bad input or usage, or no place for
the evidence.

\b
Examples:
  netproof verify acasxu_1_1.onnx prop_3.vnnlib --timeout 116
  netproof verify digits.onnx --data digits.npz --index 7 --eps 0.08 --domain 0 1
  netproof verify digits.onnx --data digits.npz --index 7 --domain 0 1 --norm l2 --kind distance
""",
)
@click.argument("network", type=FILE)
@click.argument("spec", type=FILE, required=False)
@question_options
@click.option(
    "--save-query",
    type=NEW_FILE,
    help="Only write the question to this .json file, as POST /v1/verify takes it.",
)
@decision_options
def verify(*, network: Path, spec: Path | None, save_query: Path | None, **options: Any) -> int:
    """Decide whether any input of a region makes NETWORK (ONNX) break a property.

    SPEC is a VNNLIB file, or a .json file with the query of POST /v1/verify. Without it, --data, --index and --eps
    state a ball around an input that must keep its class; --box states a box instead. --kind asks how small the margin
    becomes, or how near the nearest violation is. docs/asking.md has an example of each.
    """
    stated, how = split(options)
    asked = members(spec, **stated)

    from networks import load
    from solver import pose

    question = pose(load(network), **asked)
    if save_query is not None:
        from netproof.stating import as_json

        save_query.write_text(json.dumps(as_json(asked)))
        click.echo(f"query written to {save_query}", err=True)
        return 0
    return decide(question, **how)
