"""One check and its result."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One check and its result. ``setting`` and ``fix`` say what to change."""

    name: str
    ok: bool
    message: str
    setting: str = ""
    fix: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)

    def line(self) -> str:
        """For a terminal; two lines if there is something to do."""
        text = f"{'ok  ' if self.ok else 'FAIL'} {self.name}: {self.message}"
        advice = " — ".join(part for part in (self.setting, self.fix) if part)
        return f"{text}\n     {advice}" if advice else text
