"""The packages of the extra ``privacy``: their data are read where they are installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from streams.core.errors import ConfigurationError


def folder_of(package: str) -> Path:
    """The folder of an installed package, which is not imported.

    Raises `ConfigurationError` if it is not installed.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            f"names cannot be masked: the package {package} is not installed",
            setting="PRIVACY_ENTITIES",
            fix="install labelstream with the extra 'privacy', or leave 'name' out",
        )
    return Path(spec.origin).parent
