"""``netproof check``: whether a certificate proves what it says about a network."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["check"]

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    short_help="Check a certificate of robustness.",
    epilog="Exit codes: 0 proven, 1 not proven, 2 bad input or usage.",
)
@click.argument("certificate", type=FILE)
@click.argument("network", type=FILE)
@click.option("--float32", is_flag=True, help="Prove float32 inference too, in any order of summation.")
@click.option("--exact", is_flag=True, help="Decide every claim in exact arithmetic, not only the close ones.")
def check(*, certificate: Path, network: Path, float32: bool, exact: bool) -> int:
    """Check that CERTIFICATE proves its query about NETWORK (ONNX, also .onnx.gz).

    The checker reads both files itself and computes every bound anew, with NumPy alone; it trusts neither the prover
    nor a solver.
    """
    if float32 and exact:
        msg = "--exact decides over the reals; give either --float32 or --exact"
        raise click.UsageError(msg)

    from certificates.command import check_files

    report, question = check_files(certificate, network, semantics="float32" if float32 else "real", exact=exact)
    click.echo("\n  ".join([str(report), *question]))
    return 0 if report.proven else 1
