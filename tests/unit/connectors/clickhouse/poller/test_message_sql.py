"""The rows on which a server shows what it makes of them."""

from __future__ import annotations

from connectors.clickhouse.poller import message_sql as making


def test_the_samples_show_every_plain_character_and_escape() -> None:
    held = b"".join(row.text or b"" for row in making.SAMPLES).decode()
    assert {chr(code) for code in range(33, 127)} < set(held)
    assert set("АЯаяЁё«»—") < set(held)
    assert {row.id for row in making.SAMPLES} > {None, b"", b"1"}
    assert any(row.micros % 10**6 for row in making.SAMPLES)
    assert any(not row.micros % 10**6 for row in making.SAMPLES)
