"""``netproof examples``: the files that the manual's commands are about."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["examples"]


@click.command(short_help="Get the example networks and images that the manual uses.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default="examples")
def examples(*, folder: Path) -> None:
    """Copy the example files that the manual uses to FOLDER, by default to "examples" in the current folder.

    Two small classifiers of handwritten digits, their test images, and a query in VNNLIB. A file that is there already
    is left as it is.
    """
    from networks.errors import InputError
    from networks.examples import EXAMPLES, examples_folder

    source = examples_folder()
    if source is None:
        msg = "the example files are missing from this installation; install netproof again from its wheel"
        raise InputError(msg)
    contents = {name: (source / name).read_bytes() for name in EXAMPLES}
    others = [name for name in contents if (folder / name).exists() and (folder / name).read_bytes() != contents[name]]
    if others:
        msg = f"{folder} has other files of these names: {', '.join(others)}; name another folder"
        raise InputError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if not (folder / name).exists():
            (folder / name).write_bytes(content)
        click.echo(folder / name)
