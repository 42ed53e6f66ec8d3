"""Whether a command line that a document shows would be understood."""

from __future__ import annotations

import re
from pathlib import Path

import click
import typer

from streams.cli import app

ROOT = Path(__file__).resolve().parents[3]


def refusal(words: list[str]) -> str | None:
    """Why `labelstream` would not understand ``words`` (without the program's name); None if it would."""
    command: click.Command = typer.main.get_command(app)
    context = None
    rest = list(words)
    try:
        while True:
            context = command.make_context(command.name, rest, parent=context)
            if not isinstance(command, click.Group):
                return None
            if not (rest := [*context._protected_args, *context.args]):
                return "a command is missing"
            found = command.get_command(context, rest[0])
            if found is None:
                return f"there is no command {rest[0]}"
            command, rest = found, rest[1:]
    except click.exceptions.Exit:
        return None  # --help
    except click.ClickException as error:
        return error.format_message() or type(error).__name__


def make_targets() -> set[str]:
    """The targets of the Makefile."""
    text = (ROOT / "Makefile").read_text("utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):", text, re.MULTILINE))
