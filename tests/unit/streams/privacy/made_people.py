"""Names and addresses, made at random as people write them. Knows nothing of the recognisers."""

# ruff: noqa: E501

from __future__ import annotations

from tests.unit.streams.privacy.made import Random, digits, listed, say

MEN = listed(
    "Иван Пётр Сергей Андрей Дмитрий Алексей Михаил Николай Владимир Александр Евгений Виктор Игорь "
    "Олег Юрий Павел Роман Артём Максим Денис Антон Кирилл Илья Никита Фёдор Георгий Степан Руслан "
    "Тимур Ильдар Рустам Марат Айрат Магомед Расул Шамиль Гамзат Ашот Гиви Джон Томас Бахтиёр Нурлан "
    "Азамат Фархад"
)
WOMEN = listed(
    "Анна Мария Елена Ольга Наталья Ирина Светлана Татьяна Екатерина Юлия Людмила Галина Валентина "
    "Вера Надежда Любовь Марина Виктория Дарья Полина Ксения Алина Кристина Зинаида Гульнара Айгуль "
    "Лейла Патимат Зарема Мадина Алсу Эльвира Сусанна Нино Жанна Диана Алёна Маргарита"
)
SURNAMES = listed(
    "Иванов Смирнов Кузнецов Попов Васильев Петров Соколов Михайлов Новиков Фёдоров Морозов Волков "
    "Алексеев Лебедев Семёнов Егоров Козлов Степанов Орлов Никитин Захаров Зайцев Соловьёв Борисов "
    "Яковлев Григорьев Воробьёв Сергеев Ильин Гусев Титов Кузьмин Баранов Куликов Пономарёв Галиуллин "
    "Хабибуллин Сафин Магомедов Алиев Гасанов Рахимов Каримов Мамедов Исмаилов Вишневецкий Белинский "
    "Рождественский Заболоцкий Островский"
)
UNDECLINED = listed(
    "Шевченко Ткаченко Коваленко Саакашвили Долидзе Мкртчян Петросян Черных Ковальчук Гриценко Дюма"
)
STREETS = listed(
    "Ленина Мира Гагарина Пушкина Победы Советская Молодёжная Садовая Лесная Набережная Карла-Маркса "
    "Чехова Баумана Ямашева Декабристов Космонавтов Строителей Энтузиастов Кирова Тверская Сибирская "
    "Вавилова Чапаева Красноармейская Зорге Академика-Королёва Хади-Такташа Пархоменко Рахова "
    "Вишнёвая Дубравная Братьев-Касимовых"
)
CITIES = listed("Казань Москва Пермь Омск Тверь Самара Уфа Иркутск Тула Воронеж Сочи Краснодар")


def decline(word: str, woman: bool, case: str) -> str:
    """A first name, patronymic or surname in the genitive (``gen``) or dative (``dat``)."""
    first = case == "gen"
    if word in UNDECLINED:
        return word
    if word == "Пётр":
        return "Петра" if first else "Петру"
    if word == "Павел":
        return "Павла" if first else "Павлу"
    if word == "Любовь":
        return "Любови"
    if woman and word.endswith(("ова", "ева", "ёва", "ина")) and word in {name + "а" for name in SURNAMES}:
        return word[:-1] + "ой"
    if woman and word.endswith("ая"):
        return word[:-2] + "ой"
    if word.endswith(("кий", "ный")) and not woman:
        return word[:-2] + ("ого" if first else "ому")
    if word.endswith("ия"):
        return word[:-1] + "и"
    if word.endswith("я"):
        return word[:-1] + ("и" if first else "е")
    if word.endswith("а"):
        return word[:-1] + (("и" if word[-2] in "кгхжшчщ" else "ы") if first else "е")
    if word.endswith(("й", "ь")):
        return word if woman else word[:-1] + ("я" if first else "ю")
    if woman or word[-1] in "оиуеэю":
        return word
    return word + ("а" if first else "у")


def patronymic(father: str, woman: bool) -> str:
    special = {"Илья": "Иль", "Никита": "Никит", "Пётр": "Петро", "Павел": "Павло", "Михаил": "Михайло"}
    if father in ("Илья", "Никита"):
        return special[father] + ("инична" if woman else "ич")
    if father in special:
        stem = special[father] + "в"
    elif father.endswith("ий"):
        stem = father[:-2] + "ьев"
    elif father.endswith(("й", "ь")):
        stem = father[:-1] + "ев"
    else:
        stem = father + "ов"
    return stem + ("на" if woman else "ич")


def person(random: Random) -> tuple[bool, str, str, str]:
    """Woman, first name, patronymic, surname."""
    woman = random.random() < 0.5
    if random.random() < 0.15:
        surname = random.choice(UNDECLINED)
    else:
        surname = random.choice(SURNAMES)
        if woman:
            surname = surname[:-2] + "ая" if surname.endswith("ий") else surname + "а"
    first = random.choice(WOMEN if woman else MEN)
    fathers = [name for name in MEN if name[-1] not in "иео"]
    return woman, first, patronymic(random.choice(fathers), woman), surname


def full_name(random: Random) -> tuple[str, str]:
    """A context with ``X``, and a name in its case, capitalised."""
    woman, first, middle, last = person(random)
    context, case = random.choice(
        [("меня зовут X", ""), ("это X", ""), ("X", ""), ("на имя X", "gen"), ("карта X", "gen"), ("ФИО: X", ""),
         ("заказ для X", "gen"), ("передайте X", "dat"), ("получатель X", ""), ("договор оформлен на X", "acc"),
         ("с уважением, X", ""), ("мне звонила X" if woman else "мне звонил X", ""), ("перевод X не дошел", "dat")]
    )  # fmt: skip
    words = random.choice(
        [
            (last, first, middle),
            (first, middle, last),
            (first, middle),
            (first, last),
            (last, first),
            (first, last),
        ]
    )
    if case == "acc":
        case = "" if woman else "gen"
    return context, " ".join(decline(word, woman, case) if case else word for word in words)


def capitalised_name(random: Random) -> tuple[str, str]:
    if random.random() < 0.2:
        _, first, middle, last = person(random)
        initials = random.choice([f"{first[0]}. {middle[0]}.", f"{first[0]}.{middle[0]}."])
        value = random.choice([f"{last} {initials}", f"{initials} {last}"])
        return random.choice(["заявление от X", "договор на X", "X", "оператор X"]).replace("X", value), value
    context, value = full_name(random)
    return context.replace("X", value), value


def other_case_name(random: Random) -> tuple[str, str]:
    context, value = full_name(random)
    value = value.upper() if random.random() < 0.3 else value.lower()
    value = value.replace("ё", "е").replace("Ё", "Е") if random.random() < 0.5 else value
    return context.lower().replace("x", value), value


def address(random: Random) -> tuple[str, str]:
    street, city = random.choice(STREETS).replace("-", " "), random.choice(CITIES)
    house, flat = str(random.randrange(1, 120)), str(random.randrange(1, 300))
    feminine = street.endswith("ая")
    typed = random.choice(
        ["ул. {0}", "улица {0}", "ул {0}", "{0} улица" if feminine else "ул. {0}", "пр. {0}"]
    )
    numbers = random.choice(
        ["д. {0}, кв. {1}", "дом {0} кв {1}", "{0}-{1}", "{0} кв {1}", "{0}, {1}", "дом {0}", "д.{0} кв.{1}", "{0}",
         "д {0} корп 2 кв {1}", "{0}/2 кв {1}", "дом {0}, квартира {1}, подъезд 2", "{0}а"]
    ).format(house, flat)  # fmt: skip
    place = random.choice(
        ["", "", f"г. {city}, ", f"{city}, ", f"г {city} ", f"{digits(random, 6)}, {city}, "]
    )
    bare = random.random() < 0.25
    if bare and not feminine:
        value = f"{place or city + ', '}{street} {numbers}"
    else:
        value = f"{place}{typed.format(street)}{random.choice([', ', ' '])}{numbers}"
    value = value.lower() if random.random() < 0.4 else value
    return say(
        random, value, ("адрес X", "живу X", "доставка X", "привезите X", "X", "по адресу: X", "мой адрес: X")
    )
