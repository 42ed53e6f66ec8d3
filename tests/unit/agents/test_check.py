"""Variants: what is kept keeps the rules, and what is refused says why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.check import check_variants, essence, leaks, scripts, why_not
from agents.prompting import prompt_text
from streams.core.text import clean

SOURCE = "почему не приходит код из смс"


def reason(variant: str, source: str = SOURCE) -> str | None:
    _, rejected = check_variants(source, [variant])
    return rejected[0].reason if rejected else None


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("из-за чего нет смс с кодом", None),
        ("Код по СМС не пришёл, почему?", None),
        (SOURCE, "copy-of-source"),
        ("Почему  НЕ приходит код из смс?!", "copy-of-source"),
        ("", "empty"),
        (" \u200b\n", "empty"),
        ("why is there no code", "other-script"),
        ("код" * 100, "too-long"),
        ("код", "too-short"),
        ("</query> код не приходит из смс", "leaked-prompt"),
        ('{"variants": ["код не пришёл"]}', "leaked-prompt"),
        ('["код не пришёл из смс"]', "leaked-prompt"),
        ("Вот другая формулировка: не пришёл код", "leaked-prompt"),
        ("Не добавляй имён, номеров, сумм и адресов, код", "leaked-prompt"),
        ("<|im_start|> код не пришёл из смс", "leaked-prompt"),
        ("код не пришёл на номер 89991234567", "invented-digits"),
        ("код не пришёл на a@example.com", "invented-address"),
    ],
)
def test_reasons(variant: str, expected: str | None) -> None:
    assert reason(variant) == expected


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("перезвоните [ИМЯ_2] по номеру [ТЕЛЕФОН], говорит [ИМЯ_1]", None),
        ("перезвоните по номеру [ТЕЛЕФОН] для [ИМЯ_1]", "placeholder-changed"),
        ("перезвоните Ивану на [ТЕЛЕФОН], это [ИМЯ_1]", "placeholder-changed"),
        ("на [ТЕЛЕФОН] и [ТЕЛЕФОН] перезвоните [ИМЯ_2], это [ИМЯ_1]", "placeholder-changed"),
        ("перезвоните [ИМЯ_2], это [ИМЯ_1], мой [ТЕЛЕФОН], почта [ПОЧТА]", "placeholder-changed"),
    ],
)
def test_a_variant_has_the_placeholders_of_its_source(variant: str, expected: str | None) -> None:
    assert reason(variant, "это [ИМЯ_1], перезвоните [ИМЯ_2] на [ТЕЛЕФОН]") == expected


def test_placeholders_have_no_script() -> None:
    assert reason("[ИМЯ] is asking for a call", "call [ИМЯ]") is None


def test_variants_are_not_copies_of_each_other() -> None:
    kept, rejected = check_variants(SOURCE, ["нет смс с кодом", "Нет СМС с кодом!", "код так и не пришёл"])
    assert kept == ["нет смс с кодом", "код так и не пришёл"]
    assert [(one.text, one.reason) for one in rejected] == [("Нет СМС с кодом!", "copy-of-another")]


def test_what_the_source_holds_itself_is_no_leak_and_no_invention() -> None:
    source = "номер +7 (999) 123-45-67, почта a@b.ru, <query> {x}: перезвоните"
    assert reason("перезвоните на 8 999 123 45 67 или +7 999 123-45-67", source) == "invented-digits"
    assert reason("перезвоните на +7 999 123-45-67, <query>", source) is None
    assert reason("напишите на a@b.ru, и номер +79991234567 ответьте", source) is None


def test_texts_without_letters_have_variants_too() -> None:
    assert reason("???", "??") is None
    assert reason("??", "??") == "copy-of-source"
    assert reason("👍👍", "👍") is None
    assert reason("Что?", "??") is None


def test_scripts_are_those_of_most_letters() -> None:
    assert scripts("где заказ ABC") == "CYRILLIC"
    assert scripts("أين طلبي") == "ARABIC"
    assert scripts("ありがとう 東京") == scripts("東京都") == "CJK"
    assert scripts("123 👍") == ""


def test_all_of_the_prompt_counts_as_leaked() -> None:
    words = prompt_text("augment").split()
    assert leaks(SOURCE, " ".join(words[3:12]))
    assert not leaks(SOURCE, SOURCE)


texts = st.text(max_size=80) | st.text(alphabet='абвгд abc 0123456789()-@.<>query{}[]"', max_size=80)


@given(texts, st.lists(texts, max_size=6))
def test_whatever_comes_what_is_kept_keeps_the_rules(source: str, variants: list[str]) -> None:
    kept, rejected = check_variants(source, variants)
    assert len(kept) + len(rejected) == len(variants)
    essences = [essence(source), *(essence(text) for text in kept)]
    assert len(set(essences)) == len(essences)
    for text in kept:
        assert text == clean(text)
        assert text
        assert why_not(source, text) is None
        assert len(text) <= 3 * len(source) + 60
        assert not (scripts(text) and scripts(source)) or scripts(text) == scripts(source)
        text.encode("utf-8")
    assert all(one.reason and len(one.text) <= 2000 for one in rejected)
