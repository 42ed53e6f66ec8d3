"""The order of the tests, and which of them share a process when there are several.

Most tests wait for others more than they compute. Those with faults take turns with nobody of their own kind:
they judge how soon work goes on, so that only the light unit tests should run beside them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

_ORDER = ("faults", "unit", "security", "flow", "browser")
# What is timed comes first, as long as the unit tests are beside it.
_FIRST = "test_recovery.py"


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort by folder; give each file, and all of `faults`, to one process."""
    root = Path(__file__).parent

    def place(item: pytest.Item) -> tuple[int, bool]:
        folder = item.path.relative_to(root).parts[0]
        return (_ORDER.index(folder) if folder in _ORDER else len(_ORDER), item.path.name != _FIRST)

    items.sort(key=place)
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        path = item.path.relative_to(root)
        item.add_marker(pytest.mark.xdist_group("faults" if path.parts[0] == "faults" else str(path)))
