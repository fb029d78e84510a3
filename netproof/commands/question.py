"""The options by which the command line states a question, and the mapping of `solver.question` that they make."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = [
    "FILE",
    "KINDS",
    "NORMS",
    "classes",
    "domain_option",
    "inputs_options",
    "kind_options",
    "members",
    "numbers",
    "question_options",
    "region",
    "region_options",
    "scaled_domain",
]

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

# A number stays the text that was written, such as 0.1 or 8/255; binary floating point would change it. Its length is
# bounded, because exact arithmetic would write 1e999999999 out in full.
NUMBER = re.compile(r"[+-]?(\d{1,40}/0*[1-9]\d{0,39}|(\d{1,40}\.?\d{0,60}|\.\d{1,60})([eE][+-]?\d{1,2})?)")

ENTRIES = re.compile(r"\d{1,9}(:\d{1,9})?(,\d{1,9}(:\d{1,9})?)*")

# The values of networks.norms.NORMS, spelt out because importing them would slow down --help.
NORMS = ["linf", "l2", "l1", "l0"]
# Those of solver.verdict.Kind.
KINDS = ["decide", "margin", "distance"]

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
    return text if NUMBER.fullmatch(text) else _loaded(text, "a number such as 0.1 or 8/255")


def _array(_ctx: click.Context, _option: click.Parameter, value: str | None) -> Any:
    return None if value is None else _loaded(value, "")


def _loaded(text: str, other: str) -> Any:
    """The array of an ``.npy`` file; ``other`` says what might have been given instead."""
    path = Path(text)
    if not path.is_file():
        forms = " or ".join(part for part in (other, "an .npy file with one number for each input entry") if part)
        msg = f"expected {forms}, got {text!r}"
        raise click.BadParameter(msg)
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        msg = f"{path} is no .npy file: {error}"
        raise click.BadParameter(msg) from error


def _entries(_ctx: click.Context, _option: click.Parameter, value: str | None) -> Any:
    """Indices such as 0,3,10:20 as a list, or the array of an ``.npy`` file."""
    if value is None:
        return None
    if not ENTRIES.fullmatch(value):
        return _loaded(value, "input entries such as 0,3,10:20")
    found: list[int] = []
    for part in value.split(","):
        begin, colon, end = part.partition(":")
        found += range(int(begin), int(end)) if colon else [int(begin)]
    return found


def _json(_ctx: click.Context, _option: click.Parameter, value: str | None) -> Any:
    if value is None:
        return None
    try:
        return json.loads(Path(value).read_text())
    except (OSError, ValueError) as error:
        msg = f"{value} is no JSON file: {error}"
        raise click.BadParameter(msg) from error


def _range(_ctx: click.Context, option: click.Parameter, value: tuple[str, str, str] | None) -> Any:
    if value is None:
        return None
    output, lower, upper = value
    if not output.isdecimal():
        msg = f"expected the number of an output and two bounds, such as 0 -1 1, got {' '.join(value)!r}"
        raise click.BadParameter(msg)
    ends = {"lower": None if lower == "-inf" else lower, "upper": None if upper == "inf" else upper}
    numbers(_ctx, option, [end for end in ends.values() if end is not None])
    return {"output": int(output), **ends}


def classes(_ctx: click.Context, _option: click.Parameter, value: str | None) -> list[int] | None:
    """A callback that reads numbers separated by commas."""
    try:
        return None if value is None else [int(part) for part in value.split(",")]
    except ValueError as error:
        msg = f"expected class numbers separated by commas, such as 3,5,8, got {value!r}"
        raise click.BadParameter(msg) from error


def domain_option(
    shown: str = "Least and greatest value of every input entry; default: 0 1 for uint8 images, else unlimited.",
) -> Callable[[Function], Function]:
    """The option ``--domain``, with this help."""
    return click.option("--domain", nargs=2, metavar="LOW HIGH", callback=numbers, help=shown)


_INPUTS = (
    click.option("--data", type=FILE, required=True, help="Data set: .npz with images and labels, or CSV."),
    click.option("--first", type=click.IntRange(min=1), metavar="N", required=True, help="Its inputs 0 to N-1."),
)
_REGION = (
    click.option(
        "--data", type=FILE, help="Data set (.npz with images and labels, or CSV), for a ball around an input of it."
    ),
    click.option("--index", type=click.IntRange(min=0), help="Which input of the data set."),
    click.option(
        "--epsilon",
        "--eps",
        "epsilon",
        metavar="NUMBER",
        callback=numbers,
        help="Radius of the ball around the input, such as 0.1 or 8/255.",
    ),
    click.option(
        "--norm", type=click.Choice(NORMS), help="Norm of the ball; default: linf; l0 counts the entries that change."
    ),
    click.option(
        "--radii", metavar="FILE.npy", callback=_array, help="How far each input entry may move by itself, one each."
    ),
    click.option(
        "--freeze",
        "frozen",
        metavar="ENTRIES",
        callback=_entries,
        help="Input entries that keep their values, such as 0,3,10:20, or an .npy file of indices or booleans.",
    ),
    domain_option(),
    click.option(
        "--box",
        nargs=2,
        metavar="LOWER UPPER",
        callback=_bounds,
        help="A box instead of a ball: each a number for all input entries, or an .npy file with one for each.",
    ),
    click.option(
        "--constraints",
        metavar="FILE.json",
        callback=_json,
        help='Linear constraints on the input: a list of {"coefficients": {"0": 1, "3": -2}, "bound": 0.5}.',
    ),
)
_PROPERTY = (
    click.option("--label", type=int, help="Class that must win; default: the data set's label."),
    click.option(
        "--targets",
        metavar="CLASSES",
        callback=classes,
        help="Classes that must not win, such as 3,5; default: all others.",
    ),
    click.option("--top-k", type=click.IntRange(min=1), metavar="K", help="The label need only be among the K best."),
    click.option(
        "--confidence", metavar="NUMBER", callback=numbers, help="The label must win by more than that in its score."
    ),
    click.option(
        "--output-range",
        nargs=3,
        metavar="OUTPUT LOWER UPPER",
        callback=_range,
        help="Instead of a label: this output must stay strictly between; -inf and inf leave a side open.",
    ),
    click.option(
        "--violations",
        metavar="FILE.json",
        callback=_json,
        help='Instead of a label: a list of clauses, each a list of rows {"coefficients": {"0": 1}, "offset": -2} for '
        "y_0 - 2 <= 0; an output that meets all rows of a clause is a violation.",
    ),
)
_KIND = (
    click.option(
        "--kind",
        type=click.Choice(KINDS),
        help="Whether there is a violation (decide, the default), how small the margin becomes, or how far from the "
        "input the nearest violation is, in --norm.",
    ),
    click.option(
        "--tolerance", metavar="NUMBER", callback=numbers, help="How far the ends of a margin or distance may be apart."
    ),
)


def inputs_options(command: Function) -> Function:
    """Give ``command`` the options that name the first inputs of a data set."""
    return _with(_INPUTS, command)


def region_options(command: Function) -> Function:
    """Give ``command`` the options of a region; their values go to `region`."""
    return _with(_REGION, command)


def kind_options(command: Function) -> Function:
    """Give ``command`` the options that say what is asked."""
    return _with(_KIND, command)


def question_options(command: Function) -> Function:
    """Give ``command`` the options of a whole question; their values go to `members`."""
    return _with((*_REGION, *_PROPERTY, *_KIND), command)


def _with(options: tuple[Callable[[Function], Function], ...], command: Function) -> Function:
    for option in reversed(options):
        command = option(command)
    return command


def scaled_domain(domain: tuple[str, str] | None, dtype: str) -> tuple[str, str] | None:
    """The domain of a data set's inputs: the one that was given, or, which is said on stderr, that of uint8 images."""
    if domain is not None or dtype != "uint8":
        return domain
    click.echo("the data set holds uint8 images: divided by 255, domain [0, 1]", err=True)
    return "0", "1"


def members(spec: Path | None, **stated: Any) -> dict[str, Any]:
    """A whole question as a mapping for `solver.pose`.

    Args:
        spec: a VNNLIB file, or a ``.json`` file with the mapping, to which options add.
        stated: the options' values.

    Raises:
        click.UsageError: the options do not go together.
        InputError: the data set cannot be used.
    """
    if spec is None:
        return region(labelled=True, **stated)
    if spec.suffix == ".json":
        return region(labelled=True, known=_query_file(spec), **stated)
    given = {name: value for name, value in stated.items() if value is not None}
    about = {"kind", "tolerance", *(("norm",) if given.get("kind") == "distance" else ())}
    if given.keys() - about:
        beside = [_flag(name) for name in given if name not in about]
        msg = f"SPEC states region and property, so {', '.join(beside)} cannot be given with it"
        raise click.UsageError(msg)
    return given | {"vnnlib": spec}


def region(
    *,
    data: Path | None,
    index: int | None,
    box: tuple[Any, Any] | None,
    labelled: bool = False,
    known: dict[str, Any] | None = None,
    **rest: Any,
) -> dict[str, Any]:
    """The members of a question that the options state, around an input of a data set or for a box.

    Args:
        data, index: where the input and, if ``labelled``, its label come from.
        box: lower and upper bounds.
        labelled: whether a property that is not stated is about the data set's label.
        known: members that are known already.
        rest: members that the options give as they are.

    Raises:
        click.UsageError: the options do not go together.
        InputError: the data set cannot be used.
    """
    options = {"data": data, "index": index, "box": box} | rest
    given = [_flag(name) for name, value in options.items() if value is not None]
    stated = (known or {}) | {name: value for name, value in rest.items() if value is not None}
    if box is not None:
        stated |= {"lower": box[0], "upper": box[1]}
    if data is not None and index is not None:
        return _around(data, index, stated, labelled) | stated
    if "lower" not in stated and "input" not in stated:
        missing = [flag for flag, value in (("--data", data), ("--index", index)) if value is None]
        missing += [] if stated.keys() & {"epsilon", "radii"} or stated.get("kind") == "distance" else ["--eps"]
        have = f" ({', '.join(given)} given)" if given else ""
        either = "SPEC, or " if labelled else ""
        msg = f"give {either}--data, --index and --eps, or --box{have}; missing: {', '.join(missing)}"
        raise click.UsageError(msg)
    if data is not None or index is not None:
        msg = "--data and --index name an input together; give both or none"
        raise click.UsageError(msg)
    return stated


def _flag(member: str) -> str:
    """The option that states a member."""
    return {"epsilon": "--eps", "frozen": "--freeze"}.get(member, "--" + member.replace("_", "-"))


def _query_file(path: Path) -> dict[str, Any]:
    try:
        query = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        msg = f"{path} is no JSON file: {error}"
        raise click.UsageError(msg) from error
    if not isinstance(query, dict):
        msg = f"{path} must hold an object, the query of POST /v1/verify; it holds {type(query).__name__}"
        raise click.UsageError(msg)
    return query


def _around(data: Path, index: int, stated: dict[str, Any], labelled: bool) -> dict[str, Any]:
    """What the data set says by itself about its input ``index``."""
    from networks import read_dataset

    dataset = read_dataset(data)
    found: dict[str, Any] = {"input": dataset.input(index)}
    if labelled and not stated.keys() & {"output_range", "violations"}:
        found["label"] = dataset.label(index)
    if "domain" not in stated and (domain := scaled_domain(None, str(dataset.stored.dtype))) is not None:
        found["domain"] = domain
    return found
