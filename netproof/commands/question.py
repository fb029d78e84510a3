"""The options by which the command line states a question, and the mapping of `solver.question` that they make."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from networks import Dataset

__all__ = ["FILE", "members", "numbers", "question_options"]

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

# A number stays the text that was written, such as 0.1 or 8/255; binary floating point would change it. Its length is
# bounded, because exact arithmetic would write 1e999999999 out in full.
NUMBER = re.compile(r"[+-]?(\d{1,40}/0*[1-9]\d{0,39}|(\d{1,40}\.?\d{0,60}|\.\d{1,60})([eE][+-]?\d{1,2})?)")

Function = TypeVar("Function", bound=Callable[..., Any])


def numbers(_ctx: click.Context, _option: click.Parameter, value: Any) -> Any:
    """A callback that checks one or two numbers, and keeps them as the text that was written."""
    for text in (value,) if isinstance(value, str) else value or ():
        if not NUMBER.fullmatch(text):
            msg = f"expected a finite number such as 0.1, 1e-3 or 8/255, got {text!r}"
            raise click.BadParameter(msg)
    return value


def _bounds(_ctx: click.Context, _option: click.Parameter, value: tuple[str, str] | None) -> Any:
    return None if value is None else tuple(_number_or_array(text) for text in value)


def _number_or_array(text: str) -> Any:
    """A number as it was written, or the array of an ``.npy`` file."""
    if NUMBER.fullmatch(text):
        return text
    path = Path(text)
    if not path.is_file():
        msg = f"expected a number such as 0.1 or 8/255, or an .npy file with one for each input entry, got {text!r}"
        raise click.BadParameter(msg)
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        msg = f"{path} is no .npy file: {error}"
        raise click.BadParameter(msg) from error


def _classes(_ctx: click.Context, _option: click.Parameter, value: str | None) -> list[int] | None:
    try:
        return None if value is None else [int(part) for part in value.split(",")]
    except ValueError as error:
        msg = f"expected class numbers separated by commas, such as 3,5,8, got {value!r}"
        raise click.BadParameter(msg) from error


_OPTIONS = (
    click.option("--data", type=FILE, help="Data set (.npz with images and labels), instead of SPEC."),
    click.option("--index", type=click.IntRange(min=0), help="Which input of the data set."),
    click.option(
        "--epsilon",
        "--eps",
        "epsilon",
        metavar="NUMBER",
        callback=numbers,
        help="Radius of the ball around the input, such as 0.1 or 8/255.",
    ),
    click.option("--norm", type=click.Choice(["linf"]), default="linf", show_default=True, help="Norm of the ball."),
    click.option(
        "--domain",
        nargs=2,
        metavar="LOW HIGH",
        callback=numbers,
        help="Least and greatest value of every input entry; default: 0 1 for uint8 images, else unlimited.",
    ),
    click.option(
        "--box",
        nargs=2,
        metavar="LOWER UPPER",
        callback=_bounds,
        help="A box instead of a ball: each a number for all input entries, or an .npy file with one for each.",
    ),
    click.option("--label", type=int, help="Class that must win; default: the data set's label."),
    click.option(
        "--targets",
        metavar="CLASSES",
        callback=_classes,
        help="Classes that must not win, such as 3,5; default: all others.",
    ),
)


def question_options(command: Function) -> Function:
    """Give ``command`` the options of a question; their values go to `members`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def members(
    spec: Path | None, *, data: Path | None, index: int | None, box: tuple[Any, Any] | None, **rest: Any
) -> dict[str, Any]:
    """The question as a mapping for `solver.pose`.

    Args:
        spec: a VNNLIB file.
        data, index: where the input and, by default, its label come from.
        box: lower and upper bounds.
        rest: members that the options give as they are.

    Raises:
        click.UsageError: the options do not go together.
        InputError: the data set cannot be used.
    """
    stated = {name: value for name, value in rest.items() if value is not None}
    ball = {"--data": data, "--index": index, "--eps": rest["epsilon"]}
    _check_usage(spec, ball, box, stated)
    if spec is not None:
        return stated | {"vnnlib": spec}
    if box is not None:
        return stated | {"lower": box[0], "upper": box[1]}
    assert data is not None
    assert index is not None
    from networks import Dataset

    return _around(Dataset.read(data), index) | stated


def _around(dataset: Dataset, index: int) -> dict[str, Any]:
    """What the data set says by itself about its input ``index``."""
    found: dict[str, Any] = {"input": dataset.input(index), "label": dataset.label(index)}
    if dataset.stored.dtype == "uint8":
        found["domain"] = ("0", "1")
    return found


def _check_usage(spec: Path | None, ball: dict[str, Any], box: Any, stated: dict[str, Any]) -> None:
    """Refuse what does not go together, in terms of options; `solver.pose` would say it in terms of members."""
    given = [name for name, value in (ball | {"--box": box}).items() if value is not None]
    given += [f"--{name}" for name in ("domain", "label", "targets") if name in stated]
    if spec is not None:
        if given:
            msg = f"SPEC states region and property, so {', '.join(given)} cannot be given with it"
            raise click.UsageError(msg)
        return
    if box is not None:
        beside = [name for name in given if name in {*ball, "--domain"}]
        if beside:
            msg = f"--box states the region, so {', '.join(beside)} cannot be given with it"
            raise click.UsageError(msg)
        return
    missing = [name for name, value in ball.items() if value is None]
    if missing:
        have = f" ({', '.join(given)} given)" if given else ""
        msg = f"give SPEC, or --data, --index and --eps, or --box{have}; missing: {', '.join(missing)}"
        raise click.UsageError(msg)
