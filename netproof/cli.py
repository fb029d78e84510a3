"""The command line: one group, its commands in `netproof.commands`, and one place where errors become messages.

Command modules import only click at the top, so that ``netproof --help`` costs milliseconds; torch, ONNX Runtime and
the service are imported by the command that needs them.

Exit codes: 0 robust (or success), 1 counterexample, 2 bad input or usage, 3 unknown, 70 a fault of netproof itself,
130 aborted from the keyboard. A fault must never look like a verdict, which is why it does not exit 1.
"""

from __future__ import annotations

import sys
import traceback
from typing import Any, NoReturn

import click

from netproof.commands.admin import admin
from netproof.commands.audit import audit
from netproof.commands.batch import batch
from netproof.commands.check import check
from netproof.commands.compare import compare
from netproof.commands.epsilons import epsilons
from netproof.commands.examples import examples
from netproof.commands.info import info
from netproof.commands.keys import keys
from netproof.commands.monotone import monotone
from netproof.commands.product import product
from netproof.commands.ranges import ranges
from netproof.commands.remote import status, submit, watch
from netproof.commands.serve import serve
from netproof.commands.universal import universal
from netproof.commands.verify import verify
from netproof.commands.worker import worker

__all__ = ["cli", "main"]

BAD_INPUT = 2
FAULT = 70
ABORTED = 130


class _Root(click.Group):
    """The command group; every command also takes ``--debug``."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        cmd.params.append(_debug_option())
        super().add_command(cmd, name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001  the last place where any error can become a message
            return _explain(error, debug=bool(ctx.meta.get("netproof.debug")))


def _debug_option() -> click.Option:
    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            ctx.meta["netproof.debug"] = True

    return click.Option(
        ["--debug"], is_flag=True, expose_value=False, callback=remember, help="Show the traceback of an error."
    )


def _explain(error: Exception, *, debug: bool) -> int:
    """Print ``error`` for a user, not for a programmer; return the exit code."""
    from networks.errors import InputError, NetproofError, SoundnessError
    from solver.errors import BackendError

    if debug:
        traceback.print_exception(error)
    if isinstance(error, InputError | BackendError | OSError):
        click.echo(f"netproof: {error}", err=True)
        return BAD_INPUT
    if isinstance(error, NetproofError) and not isinstance(error, SoundnessError):
        click.echo(f"netproof: {error}", err=True)
        return FAULT
    if isinstance(error, MemoryError):
        click.echo("netproof: out of memory; try a smaller network, fewer --threads or --engine bounds", err=True)
        return FAULT
    click.echo(f"netproof: this is a fault of netproof, not a verdict: {type(error).__name__}: {error}", err=True)
    if not debug:
        click.echo("run the same command with --debug and report what it prints", err=True)
    return FAULT


@click.group(cls=_Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="netproof", message="%(prog)s %(version)s")
def cli() -> None:
    """Exact verification of trained neural networks: counterexamples that replay, bounds that hold."""


_LOCAL = (verify, ranges, compare, monotone, universal, audit, epsilons, check, product, info, examples)
_SERVICE = (serve, worker, submit, status, watch, batch, keys, admin)

for command in (*_LOCAL, *_SERVICE):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line on ``arguments`` (``sys.argv`` by default) and exit with its code."""
    try:
        code = cli.main(args=arguments, prog_name="netproof", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = BAD_INPUT  # click's own code for an unreadable file is 1, which would read as a counterexample
    except (click.Abort, KeyboardInterrupt):
        click.echo("aborted", err=True)
        code = ABORTED
    sys.exit(code if isinstance(code, int) else 0)
