"""What is watched of texts."""

from __future__ import annotations

from streams.drift.counts import LENGTH, UNKNOWN
from streams.drift.texts import LEARNT_DAYS, Vocabulary, features, look_at

KNOWN = [("как открыть вклад", 3), ("заблокируйте карту", 1)]


def vocabulary_after(days: int) -> Vocabulary:
    made = Vocabulary()
    for day in range(20_000, 20_000 + days):
        made.turn_to(day)
        look_at(KNOWN, made)
    return made


def unknown(texts: list[tuple[str, int]], vocabulary: Vocabulary) -> float:
    _, means = look_at(texts, vocabulary)
    rows, total, _ = means[UNKNOWN]
    return total / rows


def test_scripts_are_counted_by_rows_and_length_is_of_characters() -> None:
    scripts, means = look_at(
        [*KNOWN, ("open a deposit", 2), ("123", 1), ("存款", 1), ("Її немає", 3), ("ҚАРЫЗ", 1)], Vocabulary()
    )
    assert scripts == {"cyrillic": 4, "cyrillic-other": 4, "latin": 2, "none": 1, "other": 1}
    assert means[LENGTH][0] == 12
    assert UNKNOWN not in means  # nothing was learnt


def test_what_was_seen_for_days_is_known_and_what_is_new_is_not() -> None:
    vocabulary = vocabulary_after(LEARNT_DAYS + 2)
    assert unknown(KNOWN, vocabulary) == 0.0
    assert unknown([("ипотека под залог", 1)], vocabulary) > 0.8
    assert 0.2 < unknown([("как открыть вклад", 1), ("ипотека под залог", 1)], vocabulary) < 0.6


def test_a_new_topic_is_unknown_all_day_long_and_known_two_days_later() -> None:
    vocabulary = vocabulary_after(LEARNT_DAYS + 2)
    topic = [("ипотека под залог", 1)]
    assert unknown(topic, vocabulary) == unknown(topic, vocabulary) > 0.8
    vocabulary.turn_to(vocabulary.day + 1)
    assert unknown(topic, vocabulary) > 0.8
    vocabulary.turn_to(vocabulary.day + 1)
    assert unknown(topic, vocabulary) == 0.0


def test_what_is_not_seen_for_a_month_is_forgotten() -> None:
    vocabulary = vocabulary_after(LEARNT_DAYS + 2)
    for _ in range(30):
        vocabulary.turn_to(vocabulary.day + 1)
        look_at([("переведите деньги", 1)], vocabulary)
    assert unknown(KNOWN, vocabulary) > 0.8


def test_a_vocabulary_is_read_as_it_was_written() -> None:
    vocabulary = vocabulary_after(LEARNT_DAYS + 2)
    vocabulary.turn_to(vocabulary.day + 1)
    again = Vocabulary.unpack(vocabulary.day, vocabulary.learnt_days, vocabulary.pack())
    assert (again.known == vocabulary.known).all()
    assert again.learnt_days == vocabulary.learnt_days
    again.turn_to(again.day + 1)
    assert unknown(KNOWN, again) == 0.0


def test_odd_texts_have_features_too() -> None:
    for text in ("", "a", "\ud800", "🙂", "x" * 100_000):
        assert len(features(text).places) >= 1
