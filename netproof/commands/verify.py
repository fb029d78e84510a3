"""``netproof verify``: one query, one verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netproof.commands.question import FILE, members, question_options

if TYPE_CHECKING:
    from solver import Verdict

__all__ = ["BACKENDS", "ENGINES", "EXIT_CODES", "verify"]

EXIT_CODES = {"robust": 0, "counterexample": 1, "unknown": 3}

# The values of solver.Engine and solver.Backend, spelt out because importing them would slow down --help.
ENGINES = ["auto", "bounds", "milp", "bab"]
BACKENDS = ["auto", "highs", "gurobi"]


@click.command(
    short_help="Decide one query about a network.",
    epilog="""
Exit codes: 0 robust, 1 counterexample, 3 unknown (also after Ctrl-C), 2 bad input or usage.

\b
Examples:
  netproof verify acasxu_1_1.onnx prop_3.vnnlib --timeout 116
  netproof verify digits.onnx --data digits.npz --index 7 --eps 0.08 --domain 0 1
""",
)
@click.argument("network", type=FILE)
@click.argument("spec", type=FILE, required=False)
@question_options
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for the decision, loading not included.",
)
@click.option("--engine", type=click.Choice(ENGINES), default="auto", show_default=True, help="What may decide.")
@click.option("--backend", type=click.Choice(BACKENDS), default="auto", show_default=True, help="MIP solver.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; default: one for each core.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the attacks' randomness.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option(
    "--counterexample",
    "witness",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write a counterexample to this file, in VNN-COMP's format.",
)
@click.option(
    "--certificate",
    "proof",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Prove a robust verdict to the independent checker, and write the certificate to this file.",
)
def verify(
    *,
    network: Path,
    spec: Path | None,
    timeout: float,
    engine: str,
    backend: str,
    threads: int | None,
    seed: int,
    as_json: bool,
    witness: Path | None,
    proof: Path | None,
    **stated: Any,
) -> int:
    """Decide whether any input of a region makes NETWORK (ONNX) break a property.

    SPEC is a VNNLIB file, or a .json file with the query of POST /v1/verify. Without it, --data, --index and --eps
    state a ball around an input that must keep its class; --box states a box instead. docs/questions.md has an example
    of each region and property.
    """
    asked = members(spec, **stated)

    import solver
    from netproof import foreground
    from netproof.report import report
    from networks import load
    from solver import Backend, Budget, Engine, Options, pose

    question = pose(load(network), **asked)
    budget = Budget(timeout) if threads is None else Budget(timeout, threads)
    options = Options(Engine(engine), Backend(backend), seed, certificate=proof is not None)
    verdict = foreground.run(
        lambda progress, cancel: solver.verify(
            question.network, question.query, options=options, budget=budget, progress=progress, cancel=cancel
        ),
        timeout,
    )
    if witness is not None:
        _write_witness(verdict, witness)
    if proof is not None:
        _write_certificate(verdict, proof)
    if as_json:
        about = question.network
        identity = {"network": {"name": about.name, "sha256": about.sha256}, "query": question.query.statement}
        click.echo(json.dumps(verdict.to_json() | identity))
    else:
        center = question.center
        click.echo(report(verdict.to_json(), center=None if center is None else center.astype(float).tolist()))
    return EXIT_CODES[str(verdict.outcome)]


def _write_certificate(verdict: Verdict, path: Path) -> None:
    if verdict.certificate is None:
        why = "the verdict is not robust" if str(verdict.outcome) != "robust" else "no proof passed the checker"
        click.echo(f"{why}, so {path} is not written", err=True)
        return
    try:
        path.write_bytes(verdict.certificate)
    except OSError as error:
        click.echo(f"the certificate could not be written: {error}", err=True)  # the verdict is still worth printing
    else:
        click.echo(f"certificate written to {path}; check it with: netproof check {path} NETWORK", err=True)


def _write_witness(verdict: Verdict, path: Path) -> None:
    if verdict.counterexample is None:
        click.echo(f"no counterexample, so {path} is not written", err=True)
        return
    from solver.witness import vnncomp_text

    try:
        path.write_text(vnncomp_text(verdict.counterexample))
    except OSError as error:
        click.echo(f"the counterexample could not be written: {error}", err=True)  # the verdict is still worth printing
    else:
        click.echo(f"counterexample written to {path}", err=True)
