"""Damaged files by chance are read or refused; `make soak-files` tries 10,000."""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.connectors.files.mutations import judge, mutated, seeds

SEEDS = seeds()


@given(st.sampled_from(SEEDS), st.randoms(use_true_random=False))
def test_whatever_a_file_holds_it_is_read_or_refused(content: bytes, chance: random.Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(judge(Path(folder), mutated(content, SEEDS, chance), chance))
