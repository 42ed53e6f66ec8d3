"""Messages with personal data in them, and messages that only look so."""

# ruff: noqa: E501

from __future__ import annotations

from collections.abc import Sequence

from tests.unit.streams.privacy.made import Maker, Random, digits
from tests.unit.streams.privacy.made_numbers import SLIPS, WELL_FORMED
from tests.unit.streams.privacy.made_people import CITIES, address, capitalised_name, other_case_name

GROUPS: dict[str, dict[str, Maker]] = {
    "well formed": WELL_FORMED,
    "slips": SLIPS,
    "capitalised names": {"name": capitalised_name},
    "names in other case": {"name": other_case_name},
    "addresses": {"address": address},
}


def clean_piece(random: Random) -> str:
    """What looks like personal data and is not."""
    return random.choice(
        [
            f"заказ {digits(random, random.randrange(5, 11))}", f"заказ № {digits(random, 8)}",
            f"номер заказа {digits(random, 9)}", f"трек {digits(random, 14)}", f"сумма {digits(random, 4)} руб",
            f"{random.randrange(1, 99)} {digits(random, 3)} рублей", f"с 0{random.randrange(1, 9)}.11.2024",
            f"до {random.randrange(10, 28)}.12.2023 в 15:30", f"тариф {random.randrange(100, 900)}",
            f"показания {digits(random, 5)}", f"ошибка {digits(random, 3)}", f"код {digits(random, 6)}",
            f"версия {random.randrange(9)}.{random.randrange(20)}.{random.randrange(99)}",
            f"{random.randrange(100, 1000)} мбит", f"обращение {digits(random, 7)}", "в городе " + random.choice(CITIES),
            f"баллов {digits(random, 4)}", f"карта *{digits(random, 4)}", "на улице Ленина нет интернета",
            f"айфон {random.randrange(10, 17)}", f"{random.randrange(2, 9)} подъезд без света",
            f"списали {digits(random, 3)},{digits(random, 2)}", f"чек {digits(random, 6)}",
            f"возврат №{digits(random, 5)}", f"ждем {random.randrange(2, 20)} дней", f"в {random.randrange(8, 22)}:00",
            f"за {random.randrange(10, 30)}.0{random.randrange(1, 9)} - {random.randrange(10, 30)}.11",
            f"ip 192.168.{random.randrange(255)}.{random.randrange(255)}", "пакет на 30 гб", "тысяча двести рублей",
        ]
    )  # fmt: skip


def message(random: Random, carriers: Sequence[str], said: str) -> tuple[str, str]:
    """``said`` within, before or after a carrier; and the carrier alone."""
    carrier = random.choice(carriers)
    place = random.random()
    if place < 0.45:
        return f"{carrier}{random.choice([', ', '. ', ' ', '; '])}{said}", carrier
    if place < 0.7:
        return f"{said}{random.choice([', ', '. ', ' - '])}{carrier}", carrier
    if place < 0.85 and ", " in carrier:
        return carrier.replace(", ", f", {said}, ", 1), carrier
    return said, ""
