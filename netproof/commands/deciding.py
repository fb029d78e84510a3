"""What every command that decides a question shares: how to decide it, and what to print and write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from netproof.commands.values import NEW_FILE, SECONDS

if TYPE_CHECKING:
    from solver import Question, Verdict

__all__ = [
    "BACKENDS",
    "ENGINES",
    "EXIT_CODES",
    "decide",
    "decision_options",
    "keep_product",
    "product_option",
    "search_options",
    "split",
]

#: Bad input or usage, or evidence that could not be written where it was wanted.
UNUSABLE = 2
EXIT_CODES = {"robust": 0, "counterexample": 1, "unknown": 3}

# The values of solver.Engine and solver.Backend, spelt out because importing them would slow down --help.
ENGINES = ["auto", "bounds", "milp", "bab"]
BACKENDS = ["auto", "highs", "gurobi"]

Function = TypeVar("Function", bound=Callable[..., Any])

_SEARCH = (
    click.option(
        "--timeout",
        type=SECONDS,
        default=300.0,
        show_default=True,
        metavar="SECONDS",
        help="Time for the decision, loading not included.",
    ),
    click.option("--engine", type=click.Choice(ENGINES), default="auto", show_default=True, help="What may decide."),
    click.option("--backend", type=click.Choice(BACKENDS), default="auto", show_default=True, help="MIP solver."),
    click.option("--threads", type=click.IntRange(min=1), help="CPU threads; default: one for each core."),
    click.option("--seed", type=int, default=0, show_default=True, help="Of the attacks' randomness."),
    click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout."),
)
_TOGETHER = (
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        help="Processes that search together once branch and bound has lasted a second, each on a core; "
        "default: as many as threads, at most 8.",
    ),
)
_EVIDENCE = (
    click.option(
        "--counterexample",
        "witness",
        type=NEW_FILE,
        help="Write a counterexample to this file, in VNN-COMP's format.",
    ),
    click.option(
        "--certificate",
        "proof",
        type=NEW_FILE,
        help="Prove what is claimed to the independent checker, and write the certificate to this file.",
    ),
)
_NAMES = ("timeout", "engine", "backend", "threads", "seed", "as_json", "workers", "witness", "proof")


def decision_options(command: Function) -> Function:
    """Give ``command`` the options of a decision; their values go to `decide`."""
    for option in reversed((*_SEARCH, *_TOGETHER, *_EVIDENCE)):
        command = option(command)
    return command


def search_options(command: Function) -> Function:
    """Give ``command`` the options that say how to search, and how to print."""
    for option in reversed(_SEARCH):
        command = option(command)
    return command


def product_option(command: Function) -> Function:
    """Give ``command`` the option whose value goes to `keep_product`."""
    option = click.option(
        "--product",
        type=NEW_FILE,
        help="Write the network that counterexample and certificate are about to this file.",
    )
    return option(command)


def keep_product(question: Question, path: Path | None) -> None:
    """Write the network that a question is about."""
    if path is not None:
        path.write_bytes(question.network.model)
        click.echo(f"product network written to {path}", err=True)


def split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A command's options, parted into those of its question and those of the decision, for `decide`."""
    how = {name: options[name] for name in _NAMES}
    return {name: value for name, value in options.items() if name not in how}, how


def decide(
    question: Question,
    *,
    timeout: float,
    engine: str,
    backend: str,
    threads: int | None,
    seed: int,
    as_json: bool,
    workers: int | None,
    witness: Path | None,
    proof: Path | None,
) -> int:
    """Answer a question in front of the terminal, print the verdict and write its evidence; the exit code."""
    import solver
    from netproof import foreground
    from netproof.report import report
    from solver import Backend, Budget, Engine, Options
    from solver.local_helpers import local_helpers, shares

    options = Options(Engine(engine), Backend(backend), seed, certificate=proof is not None)
    own, processes = shares(threads, workers)
    with local_helpers(question.network, processes) as helpers:
        budget = Budget(timeout, own, helpers)
        verdict = foreground.run(
            lambda progress, cancel: solver.answer(
                question, options=options, budget=budget, progress=progress, cancel=cancel
            ),
            timeout,
        )
    kept = witness is None or _write_witness(verdict, witness)
    kept &= proof is None or _write_certificate(verdict, proof, question)
    document = verdict.to_json() | {"query": question.query.statement}
    if as_json:
        about = question.network
        click.echo(json.dumps(document | {"network": {"name": about.name, "sha256": about.sha256}}))
    else:
        center = question.center
        click.echo(report(document, center=None if center is None else center.astype(float).tolist()))
    return EXIT_CODES[str(verdict.outcome)] if kept else UNUSABLE


def _write_certificate(verdict: Verdict, path: Path, question: Question) -> bool:
    if verdict.certificate is None:
        claims = question.kind != "decide" or str(verdict.outcome) == "robust"
        why = "no proof passed the checker" if claims else "the verdict is not robust"
        click.echo(f"{why}, so {path} is not written", err=True)
        return True
    float32 = "--float32 " * (str(verdict.semantics) == "float32")
    return _write(path, verdict.certificate, "certificate", f"; check it with: netproof check {float32}{path} NETWORK")


def _write_witness(verdict: Verdict, path: Path) -> bool:
    found = verdict.counterexample or verdict.witness
    if found is None:
        click.echo(f"no counterexample, so {path} is not written", err=True)
        return True
    from solver.witness import vnncomp_text

    return _write(path, vnncomp_text(found).encode(), "counterexample")


def _write(path: Path, data: bytes, what: str, note: str = "") -> bool:
    """Whether evidence is in its file; if not, it is said, and the verdict is still worth printing."""
    try:
        path.write_bytes(data)
    except OSError as error:
        click.echo(f"the {what} could not be written: {error}", err=True)
        return False
    click.echo(f"{what} written to {path}{note}", err=True)
    return True
