"""The order of the tests when several processes share them, file by file (`make test`).

Most tests wait for others more than they compute. The one file that judges by the clock how soon work goes on
comes first, so that nothing but light unit tests runs beside it.
"""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

# A slow example says that the machine is busy, not that the code is wrong.
hypothesis.settings.register_profile("labelstream", deadline=None)
hypothesis.settings.load_profile("labelstream")

_TIMED = "faults/test_recovery.py"
_FOLDERS = ("unit", "faults", "security", "integration", "browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by folder."""
    root = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(root)
        folder = path.parts[0]
        if path.as_posix() == _TIMED:
            return -1
        return _FOLDERS.index(folder) if folder in _FOLDERS else len(_FOLDERS)

    items.sort(key=place)
