"""Numbers and e-mail addresses of persons, made at random as people write them, well formed and with slips.

Knows nothing of the recognisers.
"""

from __future__ import annotations

from tests.unit.streams.privacy.made import Maker, Random, digits, in_groups, listed, say

HOSTS = listed("mail.ru yandex.ru gmail.com bk.ru inbox.ru list.ru outlook.com rambler.ru ya.ru company.com")
PARTS = listed("ivan petrov anna smirnova kot sergey87 masha1990 dr.house olga a.ivanova superman tanya info")
SPOKEN = {
    1: listed("один два три четыре пять шесть семь восемь девять"),
    10: listed(
        "десять одиннадцать двенадцать тринадцать четырнадцать пятнадцать шестнадцать семнадцать "
        "восемнадцать девятнадцать"
    ),
    20: listed("двадцать тридцать сорок пятьдесят шестьдесят семьдесят восемьдесят девяносто"),
    100: listed("сто двести триста четыреста пятьсот шестьсот семьсот восемьсот девятьсот"),
}


def mobile(random: Random) -> str:
    return "9" + random.choice("0123456789") + digits(random, 8)


PHONE = (
    "мой телефон X",
    "номер X",
    "X",
    "тел. X",
    "перезвоните на X",
    "X это мой номер",
    "тел:X",
    "звонил с X",
)


def phone(random: Random) -> tuple[str, str]:
    number = (
        mobile(random) if random.random() < 0.85 else random.choice(["495", "812", "843"]) + digits(random, 7)
    )
    prefix = random.choice(["+7", "8", "+7 ", "8 ", "8-", "7"])
    form = random.choice(["solid", "brackets", "dashes", "spaces", "mixed"])
    a, b, c, d = number[:3], number[3:6], number[6:8], number[8:]
    value = {
        "solid": prefix.strip(" -") + number,
        "brackets": f"{prefix}({a}){random.choice(['', ' '])}{b}-{c}-{d}",
        "dashes": f"{prefix.strip(' -')}-{a}-{b}-{c}-{d}",
        "spaces": f"{prefix.strip(' -')} {a} {b} {c} {d}",
        "mixed": f"{prefix.strip(' -')} {a} {b}-{c}-{d}",
    }[form]
    return say(random, value, PHONE)


def email(random: Random) -> tuple[str, str]:
    local = random.choice(PARTS) + random.choice(["", ".", "_", "-"]) + random.choice(PARTS)
    value = f"{local}{random.choice(['', '1', '77'])}@{random.choice(HOSTS)}"
    value = random.choice([value, value, value.upper(), value.capitalize()])
    return say(random, value, ("почта X", "X", "мой email X", "чек пришлите на X пожалуйста", "e-mail: X"))


def with_luhn(body: str) -> str:
    total = 0
    for place, char in enumerate(reversed(body)):
        digit = int(char) * (2 if place % 2 == 0 else 1)
        total += digit - 9 if digit > 9 else digit
    return body + str(-total % 10)


def card_number(random: Random) -> str:
    return with_luhn(
        random.choice(["4276", "5469", "2200", "2202", "4100", "5536", "6759"]) + digits(random, 11)
    )


def card(random: Random) -> tuple[str, str]:
    value = in_groups(card_number(random), (4, 4, 4, 4), random.choice(["", " ", "-"]))
    return say(random, value, ("карта X", "номер карты X", "X", "с карты X списали", "на карту X не пришло"))


def with_snils(body: str) -> str:
    total = sum(int(char) * (9 - place) for place, char in enumerate(body))
    return body + f"{total % 101 % 100:02}"


def snils(random: Random) -> tuple[str, str]:
    number = with_snils(random.choice("123456789") + digits(random, 8))
    form = f"{number[:3]}-{number[3:6]}-{number[6:9]} {number[9:]}"
    if random.random() < 0.3:
        return say(random, number, ("снилс X", "СНИЛС: X", "мой снилс X"))
    return say(random, form, ("снилс X", "X", "СНИЛС X", "мой снилс X"))


def inn_12(random: Random) -> str:
    body = f"{random.randrange(1, 93):02}" + digits(random, 8)
    for weights in ((7, 2, 4, 10, 3, 5, 9, 4, 6, 8), (3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8)):
        total = sum(int(char) * weight for char, weight in zip(body, weights, strict=True))
        body += str(total % 11 % 10)
    return body


def inn(random: Random) -> tuple[str, str]:
    if random.random() < 0.5:
        return say(random, inn_12(random), ("инн X", "ИНН: X", "X", "мой ИНН X проверьте"))
    body = f"{random.randrange(1, 93):02}" + digits(random, 7)
    total = sum(int(a) * b for a, b in zip(body, (2, 4, 10, 3, 5, 9, 4, 6, 8), strict=True))
    return say(random, body + str(total % 11 % 10), ("инн X", "ИНН организации X", "ИНН: X"))


def passport(random: Random) -> tuple[str, str]:
    series = f"{random.randrange(1, 93):02}", f"{random.choice([*range(97, 100), *range(25)]):02}"
    number = digits(random, 6)
    value = random.choice(["{0} {1} {2}", "{0}{1} {2}", "{0}{1}{2}"]).format(*series, number)
    if random.random() < 0.3:
        value = random.choice(["{0}{1} номер {2}", "{0} {1} № {2}", "{0}{1}, номер {2}"]).format(
            *series, number
        )
        return f"паспорт серия {value}", value
    return say(
        random, value, ("паспорт X", "паспортные данные: X", "серия и номер X", "паспорт РФ X выдан УВД")
    )


def account(random: Random) -> tuple[str, str]:
    value = random.choice(["40817", "42301", "40802", "40702"]) + random.choice(["810", "840", "978"])
    value += digits(random, 12)
    if random.random() < 0.25:
        value = in_groups(value, (4, 4, 4, 4, 4), " ")
    return say(
        random, value, ("счёт X", "р/с X", "X", "реквизиты: счет X, бик 044525225", "на счет X не дошли")
    )


def oms(random: Random) -> tuple[str, str]:
    value = in_groups(with_luhn(digits(random, 15)), (4, 4, 4, 4), random.choice(["", " "]))
    return say(random, value, ("полис X", "полис омс X", "ОМС X", "номер полиса: X"))


PLATE = "АВЕКМНОРСТУХ"


def plate(random: Random) -> tuple[str, str]:
    region = random.choice(["77", "116", "16", "178", "02", "799", "50"])
    a, b, c = random.choice(PLATE), random.choice(PLATE), random.choice(PLATE)
    value = f"{a}{digits(random, 3)}{b}{c}{random.choice(['', ' '])}{region}"
    return say(random, value, ("машина X", "X", "номер авто X", "госномер X", "пропуск на X"))


WELL_FORMED: dict[str, Maker] = {
    "phone": phone, "email": email, "card": card, "snils": snils, "inn": inn, "passport": passport,
    "account": account, "oms": oms, "plate": plate,
}  # fmt: skip


def spoken_number(number: int) -> str:
    words = []
    if number >= 100:
        words.append(SPOKEN[100][number // 100 - 1])
    number %= 100
    if 10 <= number < 20:
        return " ".join([*words, SPOKEN[10][number - 10]])
    if number >= 20:
        words.append(SPOKEN[20][number // 10 - 2])
    if number % 10:
        words.append(SPOKEN[1][number % 10 - 1])
    return " ".join(words)


def spoken_phone(random: Random) -> tuple[str, str]:
    number = mobile(random)
    words = ["восемь" if random.random() < 0.7 else "плюс семь"]
    for part in (number[:3], number[3:6], number[6:8], number[8:]):
        zeros = len(part) - len(part.lstrip("0"))
        words += ["ноль"] * zeros + ([spoken_number(int(part))] if int(part) else [])
    return say(random, " ".join(words), ("мой номер X", "X", "телефон X", "звоните X"))


def broken_phone(random: Random) -> tuple[str, str]:
    number = random.choice(["8", "+7", "7"]) + mobile(random)
    form = random.choice(["o", "dots", "odd", "single", "comma", "wide", "invisible", "bare", "slash"])
    if form == "o":
        number = number.replace("0", random.choice("ОOо")).replace("1", random.choice("1lI"))
        value = in_groups(number, (len(number) - 10, 3, 3, 2, 2), random.choice([" ", "-"]))
    elif form == "odd":
        value = in_groups(number, (len(number) - 10, 4, 2, 4), random.choice([" ", "-", " - "]))
    elif form == "wide":
        value = number.translate({ord(char): ord(char) + 0xFEE0 for char in "0123456789"})
    elif form == "invisible":
        value = "\u200b".join(in_groups(number, (5, 3, 2, 2), "|").split("|"))
    elif form == "bare":
        value = in_groups(
            number[-10:], random.choice([(10,), (3, 3, 2, 2), (3, 7)]), random.choice([" ", "-"])
        )
    else:
        gap = {"dots": ".", "single": " ", "comma": ", ", "slash": "/"}[form]
        sizes = (1,) * len(number) if form == "single" else (len(number) - 10, 3, 3, 2, 2)
        value = in_groups(number, sizes, gap)
    return say(random, value, ("тел X", "мой телефон X", "номер телефона X", "перезвоните X", "X мой номер"))


def broken_email(random: Random) -> tuple[str, str]:
    local, host, top = random.choice(PARTS), *random.choice(HOSTS).split(".")
    value = random.choice(
        ["{0} @ {1}.{2}", "{0}@ {1}.{2}", "{0} собака {1} точка {2}", "{0}@{1}. {2}", "{0}(собака){1}.{2}",
         "{0} @{1} . {2}", "{0}@{1},{2}", "{0}[at]{1}[dot]{2}"]
    ).format(local, host, top)  # fmt: skip
    return say(random, value, ("почта X", "пишите на X", "мой адрес X", "email X"))


def broken_card(random: Random) -> tuple[str, str]:
    number = list(card_number(random))
    form = random.choice(["digit", "short", "groups", "dots", "letters", "long gaps"])
    if form == "digit":
        number[7] = random.choice("0123456789")
    if form == "short":
        del number[9]
    if form == "letters":
        number = ["О" if char == "0" else char for char in number]
    sizes = (4, 2, 6, 4) if form == "groups" else (4, 4, 4, 4)
    gap = {"dots": ".", "long gaps": "  ", "letters": random.choice(["", " "])}.get(
        form, random.choice(["", " "])
    )
    return say(
        random, in_groups("".join(number), sizes, gap), ("карта X", "номер карты X", "с карты X деньги ушли")
    )


def broken_document(random: Random) -> tuple[str, str]:
    form = random.choice(["snils", "inn", "passport", "oms", "plate", "account", "foreign", "customer"])
    if form == "snils":
        number = with_snils(digits(random, 9))
        value = in_groups(
            number, random.choice([(3, 3, 3, 2), (9, 2), (11,)]), random.choice([" ", "-", "."])
        )
        return say(random, value, ("снилс X", "номер снилс: X", "вот X снилс мамы"))
    if form == "inn":
        value = in_groups(inn_12(random), random.choice([(4, 4, 4), (2, 2, 6, 2)]), " ")
        return say(random, value, ("инн X", "ИНН физлица X"))
    if form == "passport":
        value = in_groups(
            digits(random, 10), random.choice([(4, 3, 3), (2, 2, 3, 3), (10,)]), random.choice(" -")
        )
        return say(random, value, ("паспорт X", "пасспорт X", "данные паспорта X", "паспорт номер X"))
    if form == "oms":
        return say(
            random, in_groups(digits(random, 16), (6, 10), " "), ("полис X", "полис ОМС номер X", "енп X")
        )
    if form == "plate":
        latin = dict(zip(PLATE, "ABEKMHOPCTYX", strict=True))
        a, b, c = (random.choice([char, char.lower(), latin[char]]) for char in random.sample(PLATE, 3))
        value = f"{a} {digits(random, 3)} {b}{c} {random.choice(['77', '116', '16'])}"
        return say(random, value, ("машина X", "госномер X", "номер авто X"))
    if form == "account":
        value = in_groups("40817810" + digits(random, 12), (5, 3, 1, 4, 7), random.choice([" ", "."]))
        return say(random, value, ("счет X", "расчетный счет X", "р/с X"))
    if form == "foreign":
        return say(random, f"7{digits(random, 1)} {digits(random, 7)}", ("загранпаспорт X", "загран X"))
    return say(
        random, digits(random, random.randrange(7, 13)), ("лицевой счет X", "л/с X", "лицевой счёт № X")
    )


SLIPS: dict[str, Maker] = {
    "spoken phone": spoken_phone, "broken phone": broken_phone, "broken email": broken_email,
    "broken card": broken_card, "broken document": broken_document,
}  # fmt: skip
