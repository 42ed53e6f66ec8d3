"""Deletes uploaded and exported files that are old."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection

from connectors.files.uploads import folder_of
from streams.core.settings import Settings

_DAY_SECONDS = 86_400.0


def delete_old(settings: Settings, used: Collection[str]) -> int:
    """Delete what nobody uploaded or wrote for UPLOAD_RETENTION_DAYS, uploads with their description.
    ``used``: ids of uploaded files that stay. Returns how many files are gone.
    """
    oldest, deleted = time.time() - settings.upload_retention_days * _DAY_SECONDS, 0
    uploads = [path for path in folder_of(settings).glob("*.data") if path.stem not in used]
    for path in [*uploads, *(settings.labelstream_data / "exports").glob("*.csv")]:
        with contextlib.suppress(OSError):  # another process did it
            if path.stat().st_mtime < oldest:
                path.with_suffix(".json").unlink(missing_ok=True)
                path.unlink()
                deleted += 1
    return deleted
