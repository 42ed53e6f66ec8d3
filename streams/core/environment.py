"""Reads the settings from `.env` and the environment, and validates them.

An unknown name or an invalid value is refused: the error names the setting, what is wrong, and what to write
instead. Values of secrets are never shown.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import SecretStr, ValidationError

from streams.core.errors import ConfigurationError
from streams.core.settings import Settings

_FAMILIES = re.compile(
    r"^(CLICKHOUSE|KAFKA|LLM|TOPIC|POLL|AUGMENT|LABEL|LABELSTREAM|TAXONOMY|FETCH|API|HEALTH|MIN_TEXT|PRIVACY|OTEL)_"
)
# Similar enough to one of our names to be a typing error. The environment also has other programs' names
# (KAFKA_HEAP_OPTS, an orchestrator's CLICKHOUSE_SERVICE_HOST), which must not be refused.
_SLIP = 0.88
# OpenTelemetry has many more variables than are read here, and some differ in a word.
_SLIP_OTEL = 0.93


def load(environment: dict[str, str] | None = None, env_file: Path | None = Path(".env")) -> Settings:
    """The settings from ``env_file``, overridden by ``environment`` (default: the process's).

    Raises:
        ConfigurationError: one line for each problem, with the setting's name and the fix.
    """
    environment = dict(os.environ) if environment is None else environment
    known = {name.upper() for name in Settings.model_fields}
    from_file: dict[str, str] = {}
    if env_file is not None and env_file.is_file():
        from_file = _in_file(env_file)
    problems = [
        _unknown(name, known, f"in {env_file}")
        for name in from_file
        if name not in known and _FAMILIES.match(name)
    ]
    problems += [
        _unknown(name, known, "in the environment")
        for name in environment
        # Last, because it takes a millisecond or two, and a process has many other variables.
        if name not in known
        and _FAMILIES.match(name)
        and difflib.get_close_matches(
            name, known, n=1, cutoff=_SLIP_OTEL if name.startswith("OTEL_") else _SLIP
        )
    ]
    values = {
        **from_file,
        **{name.upper(): value for name, value in environment.items() if name.upper() in known},
    }
    try:
        settings = Settings.model_validate(
            {name.lower(): value for name, value in values.items() if name in known and value != ""}
        )
    except ValidationError as error:
        problems += [_malformed(dict(item)) for item in error.errors(include_url=False)]
        raise ConfigurationError("\n".join(problems)) from None
    if problems:
        raise ConfigurationError("\n".join(problems))
    return settings


def _in_file(env_file: Path) -> dict[str, str]:
    # dotenv ignores lines that it cannot parse. A line may hold a secret, so only its number is reported.
    try:
        with env_file.open(encoding="utf-8") as stream:
            lines = [line.original for line in parse_stream(stream) if line.error]
    except UnicodeDecodeError:
        raise ConfigurationError(f"{env_file} is not UTF-8: save it as UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"{env_file} cannot be read: {error.strerror}") from error
    if lines:
        # Blank lines before it count as part of a line.
        wrong = [one.line + one.string[: -len(one.string.lstrip())].count("\n") for one in lines]
        raise ConfigurationError(
            "\n".join(f"{env_file}, line {line}: not NAME=value, or a quote is left open" for line in wrong)
        )
    return {name.upper(): value or "" for name, value in dotenv_values(env_file).items()}


def _unknown(name: str, known: set[str], where: str) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = (
        f"did you mean {close[0]}?" if close else "remove it; `labelstream describe env` lists the settings"
    )
    return f"{name} ({where}): there is no such setting; {hint}"


def _malformed(item: dict[str, object]) -> str:
    where = item["loc"]
    name = str(where[0]).upper() if isinstance(where, tuple) and where else ""
    problem = str(item["msg"]).removeprefix("Value error, ")
    if not name:
        return problem
    field = Settings.model_fields[name.lower()]
    secret = "SecretStr" in str(field.annotation)
    given = "" if secret else f" = {item.get('input')!r}"
    description = (field.description or "").rstrip(".")
    return f"{name}{given}: {problem} ({description}; default: {shown_default(name.lower()) or 'unset'})"


def shown_default(field: str) -> str:
    """The default of ``field`` as it is written in `.env`; empty for unset and for secrets."""
    default = Settings.model_fields[field].default
    if default is None or isinstance(default, SecretStr):
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float) and default.is_integer():
        return str(int(default))
    return str(default)
