"""``netproof verify``: one query, one verdict."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from networks import Network, Query
    from solver import Verdict

__all__ = ["BACKENDS", "ENGINES", "EXIT_CODES", "FILE", "numbers", "verify"]

EXIT_CODES = {"robust": 0, "counterexample": 1, "unknown": 3}

# The values of solver.Engine and solver.Backend, spelt out because importing them would slow down --help.
ENGINES = ["auto", "bounds", "milp", "bab"]
BACKENDS = ["auto", "highs", "gurobi"]

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


# A number stays the text that was written, such as 0.1 or 8/255; binary floating point would change it. Its length is
# bounded, because exact arithmetic would write 1e999999999 out in full.
NUMBER = re.compile(r"[+-]?(\d{1,40}/0*[1-9]\d{0,39}|(\d{1,40}\.?\d{0,60}|\.\d{1,60})([eE][+-]?\d{1,2})?)")


def numbers(_ctx: click.Context, _option: click.Parameter, value: Any) -> Any:
    """A callback that checks one or two numbers, and keeps them as the text that was written."""
    for text in (value,) if isinstance(value, str) else value or ():
        if not NUMBER.fullmatch(text):
            msg = f"expected a finite number such as 0.1, 1e-3 or 8/255, got {text!r}"
            raise click.BadParameter(msg)
    return value


def _classes(_ctx: click.Context, _option: click.Parameter, value: str | None) -> list[int] | None:
    try:
        return None if value is None else [int(part) for part in value.split(",")]
    except ValueError as error:
        msg = f"expected class numbers separated by commas, such as 3,5,8, got {value!r}"
        raise click.BadParameter(msg) from error


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
@click.option("--data", type=FILE, help="Data set (.npz with images and labels), instead of SPEC.")
@click.option("--index", type=click.IntRange(min=0), help="Which input of the data set.")
@click.option(
    "--eps", metavar="NUMBER", callback=numbers, help="Radius of the ball around the input, such as 0.1 or 8/255."
)
@click.option("--norm", type=click.Choice(["linf"]), default="linf", show_default=True, help="Norm of the ball.")
@click.option("--label", type=int, help="Class that must win; default: the data set's label.")
@click.option(
    "--targets",
    metavar="CLASSES",
    callback=_classes,
    help="Classes that must not win, such as 3,5; default: all others.",
)
@click.option(
    "--domain",
    nargs=2,
    metavar="LOW HIGH",
    callback=numbers,
    help="Least and greatest value of every input entry; default: 0 1 for uint8 images, else unlimited.",
)
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
    data: Path | None,
    index: int | None,
    eps: str | None,
    norm: str,
    label: int | None,
    targets: Sequence[int] | None,
    domain: tuple[str, str] | None,
    timeout: float,
    engine: str,
    backend: str,
    threads: int | None,
    seed: int,
    as_json: bool,
    witness: Path | None,
    proof: Path | None,
) -> int:
    """Decide whether any input of a region makes NETWORK (ONNX) break a property.

    SPEC is a VNNLIB file. Without it, --data, --index and --eps state the query: every input within EPS of the given
    one must keep its class.
    """
    ball = {"--data": data, "--index": index, "--eps": eps}
    _check_usage(spec, ball, {"--label": label, "--targets": targets, "--domain": domain})

    import solver
    from netproof import foreground
    from netproof.report import report
    from networks import load
    from solver import Backend, Budget, Engine, Options

    loaded = load(network)
    if spec is not None:
        from networks import read_vnnlib

        query = read_vnnlib(spec, loaded.inputs, loaded.outputs)
    else:
        assert data is not None
        assert index is not None
        assert eps is not None
        query = _ball(loaded, data, index, eps, norm=norm, label=label, targets=targets, domain=domain)
    budget = Budget(timeout) if threads is None else Budget(timeout, threads)
    options = Options(Engine(engine), Backend(backend), seed, certificate=proof is not None)
    verdict = foreground.run(
        lambda progress, cancel: solver.verify(
            loaded, query, options=options, budget=budget, progress=progress, cancel=cancel
        ),
        timeout,
    )
    if witness is not None:
        _write_witness(verdict, witness)
    if proof is not None:
        _write_certificate(verdict, proof)
    if as_json:
        identity = {"network": {"name": loaded.name, "sha256": loaded.sha256}, "query": query.statement}
        click.echo(json.dumps(verdict.to_json() | identity))
    else:
        center = query.cases[0][0].center if spec is None else None
        click.echo(report(verdict.to_json(), center=None if center is None else center.astype(float).tolist()))
    return EXIT_CODES[str(verdict.outcome)]


def _check_usage(spec: Path | None, ball: dict[str, Any], extras: dict[str, Any]) -> None:
    given = [name for name, value in {**ball, **extras}.items() if value is not None]
    if spec is not None and given:
        msg = f"SPEC states region and property, so {', '.join(given)} cannot be given with it"
        raise click.UsageError(msg)
    missing = [name for name, value in ball.items() if value is None]
    if spec is None and missing:
        have = f" ({', '.join(given)} given)" if given else ""
        msg = f"give SPEC, or --data, --index and --eps{have}; missing: {', '.join(missing)}"
        raise click.UsageError(msg)


def _ball(
    network: Network,
    data: Path,
    index: int,
    eps: str,
    *,
    norm: str,
    label: int | None,
    targets: Sequence[int] | None,
    domain: tuple[str, str] | None,
) -> Query:
    from netproof.api import ball_query
    from networks import Dataset

    dataset = Dataset.read(data)
    if label is None:
        label = dataset.label(index)
    if domain is None and dataset.stored.dtype == "uint8":
        domain = ("0", "1")
        click.echo("the data set holds uint8 images: divided by 255, domain [0, 1]", err=True)
    return ball_query(network, dataset.input(index), eps, label=label, norm=norm, targets=targets, domain=domain)


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
