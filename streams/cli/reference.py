"""The command line's reference as a Markdown page, made from the commands' own help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from streams.cli.main import NAME, app

_WIDTH = 100


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words after the program's name; groups before their own commands."""
    yield from _below((), typer.main.get_command(app))


def _below(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "commands") or command.invoke_without_command:
        yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _below((*words, name), inner)


def examples_of(command: Any) -> list[str]:
    """The examples at the end of its help."""
    first, *lines = (command.epilog or "").split("\n\n")
    return lines if first == "Examples:" else []


def cli_page() -> str:
    """The page."""
    lines = [
        "# Command line",
        "",
        "Made from the commands' help by `make generate`; do not edit.",
        "",
        "Settings come from the environment and `.env`, see [settings](settings.md). Every command that",
        "reports takes `--json`: one JSON object, last on stdout. What is shown while one waits goes to",
        "stderr, and only to a terminal. Exit codes: 0, 1 for an error (one line, with the setting's name),",
        "2 for a command that is not understood, 3 for what a gate refuses, 75 for a role that made no",
        "progress, 130 for Ctrl-C. `--debug`, anywhere, shows the traceback of an error.",
    ]
    for words, command in commands():
        lines += ["", f"## {' '.join((NAME, *words))}", "", "```text", *_help(words, command), "```"]
        lines += ["", "```sh", *examples_of(command), "```"]
    return "\n".join(lines) + "\n"


def _help(words: tuple[str, ...], command: Any) -> list[str]:
    """As `--help` prints it, without frames and examples."""
    kept, command.epilog, command.rich_markup_mode = command.epilog, None, None
    context = command.context_class(command, info_name=" ".join((NAME, *words)), terminal_width=_WIDTH)
    text: str = command.get_help(context)
    command.epilog = kept
    return [line.rstrip() for line in text.rstrip().splitlines()]
