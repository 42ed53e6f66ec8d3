"""A process that groups texts, for `discover.py`: it may take no more memory than it is given.

Standard input holds a JSON list of texts as `RecentText`, standard output gets the groups, or an error.
Nothing of a text is written anywhere else.
"""

from __future__ import annotations

import sys
from typing import Any

import orjson

from connectors.clickhouse.queries.watching.recent_texts import RecentText
from streams.core.errors import ConfigurationError
from streams.quality.discovery.groups import find_groups


def main(megabytes: int) -> None:
    """Group the texts of the input."""
    _limit(megabytes)
    texts = [RecentText(*one) for one in orjson.loads(sys.stdin.buffer.read())]
    try:
        told: dict[str, Any] = {"groups": [tuple(one) for one in find_groups(texts)]}
    except ConfigurationError as error:
        told = {"error": str(error), "fix": error.fix}
    except MemoryError:
        told = {"error": f"grouping the texts takes more than {megabytes} MB", "fix": "give it fewer texts"}
    sys.stdout.buffer.write(orjson.dumps(told, default=int))


def _limit(megabytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has none
        return
    # Of private data: the address space of a numeric library is many times what it uses.
    most = megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


if __name__ == "__main__":
    main(int(sys.argv[1]))
