"""Persons by slovnet's small model; it sees names that no list holds, if they are capitalised."""

from __future__ import annotations

import re
from collections.abc import Iterator

from streams.privacy.recognisers.packages import folder_of

_PIECE = 2_000
_END = re.compile(r"[.!?\n;] |[,] | ")


class NameModel:
    """The model and its word vectors, some 80 MB, from the files inside the package natasha.

    Raises `ConfigurationError` where they are not installed.
    """

    def __init__(self) -> None:
        data = folder_of("natasha") / "data"
        folder_of("slovnet")
        from navec import Navec
        from slovnet import NER
        from threadpoolctl import ThreadpoolController

        vectors = Navec.load(str(data / "emb" / "navec_news_v1_1B_250K_300d_100q.tar"))
        # Products of small matrices: more threads only wait for each other.
        self._threads = ThreadpoolController()
        self._model = NER.load(str(data / "model" / "slovnet_ner_news_v1.tar")).navec(vectors)

    def persons(self, text: str) -> Iterator[tuple[int, int]]:
        """Where persons stand in ``text``. A long one is read in pieces, so that memory stays bounded."""
        for start, end in _pieces(text):
            with self._threads.limit(limits=1, user_api="blas"):
                spans = self._model(text[start:end]).spans
            yield from ((start + span.start, start + span.stop) for span in spans if span.type == "PER")


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Ends of pieces lie behind a sentence, else a comma, else a word."""
    start = 0
    while len(text) - start > _PIECE:
        window = text[start + _PIECE // 2 : start + _PIECE]
        ends = {match[0][0]: match.end() for match in _END.finditer(window)}
        cut = next((ends[mark] for mark in ".!?\n;, " if mark in ends), len(window))
        yield start, start + _PIECE // 2 + cut
        start += _PIECE // 2 + cut
    yield start, len(text)
