"""Which features a text has."""

from __future__ import annotations

from agents.proxy.features import features_of, ngrams_of


def of_one(text: str) -> list[int]:
    found = features_of([text])
    assert found.starts.tolist() == [0, len(found.feature)]
    return found.feature.tolist()


def test_are_the_ngrams_inside_words() -> None:
    assert set(ngrams_of("да, Я")) == {
        *(" д", "да", "а,", ", ", " да", "да,", "а, ", " да,", "да, ", " да, "),
        *(" я", "я ", " я "),
    }
    for text in ("да, Я", "a", "оплатить счёт картой", "🙂 ﬁ Ⅷ"):
        assert of_one(text) == sorted(set(ngrams_of(text).values()))


def test_do_not_depend_on_the_texts_around() -> None:
    texts = ["оплатить счёт", "", "я", "where is it", "ё" * 2500]
    together = features_of(texts)
    for at, text in enumerate(texts):
        alone = features_of([text])
        assert together.feature[together.starts[at] : together.starts[at + 1]].tolist() == of_one(text)
        seen = together.seen[together.seen_starts[at] : together.seen_starts[at + 1]]
        assert seen.tolist() == alone.seen.tolist()
        assert together.cut[at] == alone.cut[0]
    assert together.cut.tolist() == [False, False, False, False, True]


def test_are_of_the_normalised_text() -> None:
    assert of_one("Оплатить  СЧЁТ") == of_one("оплатить счёт")
