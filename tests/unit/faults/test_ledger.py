"""The ledger that judges a run under faults sees each kind of breach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.faults.ledger import Ledger, judge

VERSION = "v1"


def _good() -> Ledger:
    """Two rows, all is well."""
    ledger = Ledger(source=Counter({"1": 1, "2": 2}))
    ids = ["1", "2", "2~0a~2"]
    places = {(row_id, VERSION): [f"0/{n}"] for n, row_id in enumerate(ids)}
    for store in (ledger.seen, ledger.committed):
        store |= {"rows": dict(places), "labeled": dict(places), "augmented": dict(places)}
    once = Counter({(row_id, VERSION): 1 for row_id in ids})
    ledger.tables = {"logs_labeled": once.copy(), "logs_augmented": once.copy(), "dead_letters": Counter()}
    return ledger


def _lose_a_row(ledger: Ledger) -> None:
    del ledger.tables["logs_labeled"]["1", VERSION]


def _lose_an_equal_row(ledger: Ledger) -> None:
    del ledger.tables["logs_labeled"]["2~0a~2", VERSION]


def _lose_variants(ledger: Ledger) -> None:
    del ledger.tables["logs_augmented"]["2", VERSION]


def _double_on_a_topic(ledger: Ledger) -> None:
    ledger.seen["labeled"]["1", VERSION] = ["0/0", "0/9"]


def _double_for_the_committed(ledger: Ledger) -> None:
    ledger.committed["augmented"]["1", VERSION] = ["0/0", "0/9"]


def _double_in_a_table(ledger: Ledger) -> None:
    ledger.tables["logs_augmented"]["1", VERSION] = 2


def _store_a_message_twice(ledger: Ledger) -> None:
    ledger.places["logs_labeled"] = Counter({("topic", 0, 7): 2})


def _label_what_was_to_be_skipped(ledger: Ledger) -> None:
    ledger.skipped.add("3")
    ledger.tables["logs_labeled"]["3", VERSION] = 1
    ledger.tables["logs_augmented"]["3", VERSION] = 1


def _burn_a_row_in_an_outage(ledger: Ledger) -> None:
    ledger.letters.append({"row-id": "1", "step": "label", "reason": "gave-up"})
    ledger.tables["dead_letters"]["1", "label"] = 1


def _forget_a_dead_letter(ledger: Ledger) -> None:
    ledger.letters.append({"row-id": "1", "step": "augment", "reason": "invalid-answer"})


@pytest.mark.parametrize(
    "breach",
    [
        _lose_a_row,
        _lose_an_equal_row,
        _lose_variants,
        _double_on_a_topic,
        _double_for_the_committed,
        _double_in_a_table,
        _store_a_message_twice,
        _label_what_was_to_be_skipped,
        _burn_a_row_in_an_outage,
        _forget_a_dead_letter,
    ],
)
def test_the_ledger_sees_a_breach(breach: Callable[[Ledger], None]) -> None:
    assert judge(_good()) == []
    ledger = _good()
    breach(ledger)
    assert len(judge(ledger)) == 1
