"""The reference pages that are written from the program itself: ``python -m netproof.reference FOLDER``.

``cli.md`` comes from the commands' own help, ``rest.md`` from ``openapi.yaml``, ``python-api.md`` from docstrings; a
test compares them with what is committed.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

from netproof.python_reference import python_page

__all__ = ["cli_page", "main", "rest_page"]

_METHODS = ("get", "head", "post", "put", "patch", "delete")


def cli_page() -> str:
    """Every command with its options, in Markdown."""
    from netproof.cli import cli

    lines = [
        "# Command line",
        "",
        "Written by `make reference` from the commands' own help. Every command takes `--debug`, which shows where an",
        "error came from. Exit codes: 0 robust (or success), 1 counterexample, 2 bad input or usage, 3 unknown, 70 a",
        "fault of netproof itself, 130 aborted from the keyboard.",
    ]
    for path, command in _commands(cli, ("netproof",)):
        lines += ["", f"## {' '.join(path)}", "", *_command(path, command)]
    return "\n".join(lines) + "\n"


def rest_page(description: dict[str, Any]) -> str:
    """Every route of an OpenAPI document, in Markdown."""
    lines = [
        "# HTTP interface",
        "",
        "Written by `make reference` from [`openapi.yaml`](../openapi.yaml), which has the schemas, too;",
        "[Asking](asking.md) has examples, [the service](service.md#errors) the errors.",
    ]
    by_tag: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, methods in description["paths"].items():
        for method in _METHODS:
            if method in methods:
                tag = (methods[method].get("tags") or ["other"])[0]
                by_tag.setdefault(tag, []).append((method.upper(), path, methods[method]))
    for tag, routes in by_tag.items():
        lines += ["", f"## {tag.capitalize()}", ""]
        for method, path, route in routes:
            lines += [f"### {method} {path}", "", *_route(route, description), ""]
        lines.pop()
    return "\n".join(lines) + "\n"


def _commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from _commands(command.commands[name], (*path, name))
    else:
        yield path, command


def _command(path: tuple[str, ...], command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=" ".join(path))
    yield f"`{' '.join(command.get_usage(context).removeprefix('Usage: ').split())}`"
    yield ""
    yield from _paragraphs(command.help or "")
    rows = [record for each in command.params if (record := each.get_help_record(context)) is not None]
    rows = [row for row in rows if not row[0].startswith(("--debug", "-h"))]
    if rows:
        yield from ("", "| option | |", "|---|---|")
        yield from (f"| `{_cell(names)}` | {_cell(_plain(text))} |" for names, text in rows)
    if command.epilog:
        yield from ("", *_paragraphs(command.epilog))


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs of a command's help; those that keep their lines are examples."""
    for number, paragraph in enumerate(inspect.cleandoc(text).split("\n\n")):
        if number:
            yield ""
        if paragraph.startswith("\b"):
            title, *lines = paragraph.removeprefix("\b").strip().splitlines()
            yield from (title, "", "```text", *(line.strip() for line in lines), "```")
        else:
            yield _plain(paragraph)


def _route(route: dict[str, Any], description: dict[str, Any]) -> Iterator[str]:
    yield _plain(route.get("description") or route.get("summary", ""))
    parameters = [_resolved(each, description) for each in route.get("parameters", [])]
    if parameters:
        yield from ("", "| parameter | in | |", "|---|---|---|")
        for each in parameters:
            yield f"| `{each['name']}` | {each['in']} | {_cell(_plain(each.get('description', '')))} |"
    contents = _resolved(route.get("requestBody", {}), description).get("content", {})
    if contents:
        yield from ("", f"Body: {', '.join(f'`{kind}`{_schema(value)}' for kind, value in contents.items())}.")
    answers = [
        f"{status} {_plain(_resolved(each, description).get('description', ''))}"
        for status, each in route["responses"].items()
    ]
    yield from ("", f"Answers: {'; '.join(answers)}.")


def _schema(content: dict[str, Any]) -> str:
    reference = content.get("schema", {}).get("$ref", "")
    return f" (`{reference.rpartition('/')[2]}`)" if reference else ""


def _resolved(value: dict[str, Any], description: dict[str, Any]) -> dict[str, Any]:
    """What a ``$ref`` stands for."""
    if "$ref" not in value:
        return value
    found: Any = description
    for name in value["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return dict(found)


def _plain(text: str) -> str:
    """Text without the marks and the line breaks that it has for a terminal."""
    return " ".join(text.replace("\b", "").split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write the pages into the folder that the command line names."""
    folder = Path(sys.argv[1])
    (folder / "cli.md").write_text(cli_page())
    (folder / "python-api.md").write_text(python_page())
    description = yaml.safe_load((folder.parent / "openapi.yaml").read_text())
    (folder / "rest.md").write_text(rest_page(description))


if __name__ == "__main__":
    main()
