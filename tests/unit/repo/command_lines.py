"""Whether a command line that a document shows would be understood."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import typer
from typer.exceptions import TyperException

from streams.cli.main import app

ROOT = Path(__file__).resolve().parents[3]


def refusal(words: list[str]) -> str | None:
    """Why `labelstream` would not understand ``words`` (without the program's name); None if it would.

    Parses, and runs nothing.
    """
    command = _root()
    context: Any = None
    rest = list(words)
    try:
        while True:
            context = command.make_context(command.name, rest, parent=context)
            if not hasattr(command, "commands"):
                return None
            rest = [*context._protected_args, *context.args]
            if not rest and command.invoke_without_command:
                return None
            name, *rest = rest
            command = command.get_command(context, name)
            if command is None:
                return f"there is no command {name}"
    except typer.Exit:
        return None  # --help
    except TyperException as error:
        return str(error) or type(error).__name__


@functools.cache
def _root() -> Any:
    """All commands, made once: that takes longer than to parse a line."""
    return typer.main.get_command(app)


def health_check() -> list[str]:
    """The command of the image's health check."""
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    words: list[str] = json.loads(re.findall(r"^HEALTHCHECK .*CMD (\[.*\])", text, re.MULTILINE)[0])
    return words


def make_targets() -> set[str]:
    """The targets of the Makefile."""
    text = (ROOT / "Makefile").read_text("utf-8")
    return set(re.findall(r"^([a-z][a-z0-9-]*):", text, re.MULTILINE))
