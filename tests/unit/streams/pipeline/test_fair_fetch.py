"""Turns: nobody waits for another's whole buffer."""

from __future__ import annotations

from collections import Counter

from streams.pipeline.fair_fetch import Turns


class Client:
    """As Kafka's: hands out the oldest buffer, ten messages at a time, until it is empty."""

    def __init__(self, **buffers: int) -> None:
        self.buffers = dict(buffers)

    def getmany(self, among: set[str]) -> set[str]:
        for name in self.buffers:
            if name in among and self.buffers[name] > 0:
                self.buffers[name] -= 10
                return {name}
        return set()


def hand_out(client: Client, turns: Turns[str], active: set[str]) -> set[str]:
    for choice in turns.choices(active):
        if found := client.getmany(choice):
            break
    turns.served(found)
    return found


def test_each_partition_is_served_before_any_is_again() -> None:
    client, turns = Client(a=10_000, b=10_000, c=30, d=10_000), Turns[str](lambda name: False)
    order = [min(hand_out(client, turns, set("abcd"))) for _ in range(24)]
    for start in range(0, 12, 4):
        assert sorted(order[start : start + 4]) == ["a", "b", "c", "d"]
    # c has nothing any more: the others go on in turn.
    assert Counter(order[12:]) == {"a": 4, "b": 4, "d": 4}


def test_replays_come_when_no_live_partition_has_anything() -> None:
    client, turns = Client(r=10_000, s=10_000, a=40, b=20), Turns[str](lambda name: name in "rs")
    order = [min(hand_out(client, turns, set("abrs"))) for _ in range(12)]
    assert Counter(order[:6]) == {"a": 4, "b": 2}
    assert Counter(order[6:]) == {"r": 3, "s": 3}
    client.buffers["b"] = 10
    assert hand_out(client, turns, set("abrs")) == {"b"}


def test_all_are_asked_at_once_while_nobody_has_anything() -> None:
    turns = Turns[str](lambda name: False)
    assert turns.choices(set("ab")) == [set("ab")]
    turns.served({"a"})
    assert turns.choices(set("ab")) == [{"b"}, set("ab")]
    turns.served(set())
    assert turns.choices(set("ab")) == [set("ab")]
