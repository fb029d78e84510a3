"""``netproof universal``: one perturbation that flips as many inputs as possible."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from netproof.commands.deciding import BACKENDS, EXIT_CODES
from netproof.commands.question import FILE, domain_option, inputs_options, numbers, scaled_domain
from netproof.commands.values import NEW_FILE, SECONDS

__all__ = ["universal"]


@click.command(
    short_help="Find one perturbation that flips many inputs.",
    epilog="""
Exit codes: 0 none flips any of the inputs, 1 one was found that does, 3 unknown, 2 bad input or usage.

\b
Example:
  netproof universal digits.onnx --data digits.npz --first 5 --eps 0.05 --domain 0 1 --out delta.npy
""",
)
@click.argument("network", type=FILE)
@inputs_options
@click.option(
    "--epsilon",
    "--eps",
    "epsilon",
    metavar="NUMBER",
    required=True,
    callback=numbers,
    help="Largest change of an entry, such as 0.05 or 8/255.",
)
@domain_option("What sums are clipped to; default: 0 1 for uint8 images, else nothing.")
@click.option(
    "--timeout",
    type=SECONDS,
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for the search.",
)
@click.option("--backend", type=click.Choice(BACKENDS), default="auto", show_default=True, help="MIP solver.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; default: one for each core.")
@click.option("--out", type=NEW_FILE, help="Write it, as .npy.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def universal(
    *,
    network: Path,
    data: Path,
    first: int,
    epsilon: str,
    domain: tuple[str, str] | None,
    timeout: float,
    backend: str,
    threads: int | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Find one perturbation within EPS that makes NETWORK (ONNX) misclassify as many of the inputs as possible.

    All inputs get the same perturbation, clipped to the domain. For small networks: every input brings a copy of the
    network into one MILP.
    """
    import numpy as np

    from netproof import foreground
    from networks import load, read_dataset
    from solver import Backend, Budget, Options
    from solver.universal_question import as_document, search_universal

    loaded, dataset = load(network), read_dataset(data)
    domain = scaled_domain(domain, str(dataset.stored.dtype))
    budget = Budget(timeout) if threads is None else Budget(timeout, threads)
    found = foreground.run(
        lambda progress, cancel: search_universal(
            loaded,
            inputs=np.stack([dataset.input(i).reshape(-1) for i in range(first)]),
            labels=[dataset.label(i) for i in range(first)],
            epsilon=epsilon,
            domain=domain,
            options=Options(backend=Backend(backend)),
            budget=budget,
            progress=progress,
            cancel=cancel,
        ),
        timeout,
        keeping="the best perturbation so far",
    )
    if out is not None:
        np.save(out, found.delta.reshape(loaded.input_shape))
    document = as_document(found)
    if as_json:
        click.echo(json.dumps(document | {"network": {"name": loaded.name, "sha256": loaded.sha256}}))
    else:
        click.echo(_report(document, first))
    return EXIT_CODES[document["verdict"]]


def _report(document: dict[str, Any], inputs: int) -> str:
    flips, bound = document["universal"]["flips"]
    much = f"{flips}" if flips == bound else f"between {flips} and {bound}"
    lines = [click.style(f"one perturbation flips {much} of {inputs} inputs", bold=True)]
    lines[0] += f"  in {document['seconds']:.2f} s"
    lines.append(f"  flipped  {document['universal']['flipped']}, replayed: ONNX Runtime's float32 outputs")
    lines.append(f"  bound    no perturbation flips more than {bound}: the MIP solver says so")
    lines.append(f"  robust   {document['universal']['robust']}, proven: no perturbation flips these")
    if document["reason"]:
        lines.append(f"  reason   {document['reason']}")
    return "\n".join(lines)
