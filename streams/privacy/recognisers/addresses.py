"""Postal addresses: street and house, or house and flat, with what stands beside them.

A street without a house is not a person's address, nor is a city.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from streams.privacy.entities import Entity
from streams.privacy.recognisers.findings import PersonalFinding, joined_spans
from streams.privacy.recognisers.views import View
from streams.privacy.recognisers.word_lists import words

_SEP = r"[ ,.;:]{0,3}"
_WORD = r"(?:[а-яё]{1,2}\. ?){0,2}[а-яё]{3,25}(?:-[а-яё]{1,25}){0,2}"
# A name of up to three words, with a numeral in front: 8 марта, 2-я садовая, 50 лет октября.
_NAME = rf"(?:[0-9]{{1,4}}(?:-?(?:ая|ой|го|ый|ья|[яйе]))? (?:лет |года )?)?{_WORD}(?: {_WORD}){{0,2}}?"
_TYPE = (
    r"(?:улиц(?:ей|[аыеу])|ул|проспект[ауе]?|просп|пр-к?т|пр|переул(?:ок|к[аеу])|пер|шоссе|ш|набережн(?:ая|ой|ую)|"
    r"наб|бульвар[ауе]?|бул|б-р|площад[ьи]|пл|проезд[ауе]?|пр-д|тупик[ауе]?|туп|алле[яеию]|ал|"
    r"микрорайон[ауе]?|мкр-?н?|м-он|квартал[ауе]?|кв-л|тракт[ауе]?|линия|снт|днт)(?![а-яё])\.?"
)
_KIND = re.compile(_TYPE)
# Short forms that are also other words; they need their dot.
_SHORT = frozenset({"пр", "ш", "пл", "ал", "бул", "туп", "наб"})
_UNIT = (
    r"(?! ?(?:руб|[₽$€%°]|р\b|мин|час|сут|дн[еяй]|день|лет|год|мес|недел|раз|км|кг|м\b|гб|мб|тыс|балл|числ|"
    r"штук|шт|человек|градус|гигабайт|мегаб|кв\.? ?м|январ|феврал|март|апрел|ма[яе]|июн|июл|август|сентябр|"
    r"октябр|ноябр|декабр|[0-9]{3} ?(?:руб|р\b|₽|тыс))|[:.][0-9]|[0-9])"
)
_NUMBER = (
    rf"(?:№ ?)?[0-9]{{1,4}}(?: ?[/\-] ?[0-9]{{1,4}})?(?: ?[а-ик](?![а-яё./]))?(?: ?к ?[0-9]{{1,2}})?{_UNIT}"
)
_HOUSE = r"(?:(?:дом(?:а|у|е|ом)?|владение|участок|уч\.?)(?![а-яё])|(?:д|влад|вл|двлд)(?![а-яё])\.?)"
_PART = (
    r"(?:корпус[ауе]?|корп|кор|к|строени[еяи]|стр|литера?|лит|квартир[аыеу]|квар|кв|офис[ае]?|оф|комнат[аыеу]|ком|"
    r"помещени[ея]|пом|подъезд[ауе]?|под|п|этаж[ае]?|эт|секци[яи]|блок|домофон|дом|д)(?![а-яё])\.?"
)
_TAIL = (
    rf"(?:{_SEP}{_PART} ?{_NUMBER}"
    rf"|{_SEP}[0-9]{{1,3}}(?:-?[йм])? (?:подъезд|этаж|квартира|кв|корпус)(?![а-яё])"
    rf"|{_SEP}(?:улица|ул\.?) {_WORD}"
    rf"|(?: ?- ?|, ?| ){_NUMBER}(?![ -]?[а-яё]{{4}}))"
)
_QUARTER = r"(?:мкр-?н?|микрорайон[ае]?|квартал[ае]?)(?![а-яё])\.?"
_PLACE_TYPE = (
    r"(?:г|гор|город[ае]?|пос|посел(?:ок|к[аеу])|пгт|рп|с|село|селе|дер|деревн[яеи]|ст-ца|станиц[аеы]|хутор|х|аул|п|д)"
    r"(?![а-яё])\.?"
)
_REGION = (
    rf"(?:{_WORD} (?:область|обл|край|республика|респ|район|р-н|округ)(?![а-яё])\.?"
    rf"|(?:республика|респ)(?![а-яё])\.? ?{_WORD})"
)
_FLAT = re.compile(r"(?:квартир|квар|кв|подъезд|этаж|корп|офис|оф)(?:[а-яё.]*) ?[0-9]")
_INTRO = re.compile(
    r"(?<![а-яё])(?:адрес[уе]?|прописан[аы]?|проживаю|зарегистрирован[аы]?|живу|жив[её]м)"
    r"(?: (?:доставки|прописки|регистрации|проживания|подключения|по|в|на|такой|мой))*[ :\-]{1,3}"
)
_FIRST_WORD = re.compile("[а-яё0-9]+")
_LONG_WORD = re.compile("[А-Яа-яЁё]{3,}")
_STREET_ENDING = re.compile(r"(?:[ая]я|ой|ей|[оеёи]го|[ыи][йхем]|ов|ев|ин|ич|о|е|ы|и|а|я|у|ю|ь|арбат)$")
# Without a word for street or house nothing but the name tells.
_HINT = re.compile(
    r"(?<![а-яё])(?:ул|пр|пер|ш|наб|бул|б-р|пл|туп|ал|мкр|микр|м-он|кв|трак|лини|[сд]нт|д|вл|уч|адрес|жив|прожив)"
)


class Addresses:
    """Finds addresses; the lists of streets and cities are read once."""

    def __init__(self) -> None:
        self._known = words("streets")
        self._not_streets = words("not_streets")
        cities = "|".join(_stem(city) for city in sorted(words("cities"), key=len, reverse=True))
        city = rf"(?:(?:{cities})(?:ами|ью|ом|ой|ем|[аеиоуыюья])?(?![а-яё]))"
        place = rf"(?:{_PLACE_TYPE} ?{_WORD}(?: {_WORD})??|{_REGION}|{city})"
        index = r"(?:(?<![0-9])[0-9]{6}[ ,.]{1,3})?"
        head = rf"(?<![а-яё0-9])(?P<head>{index}(?:{place}[ ,.;]{{1,3}}(?:(?:по|на) )?){{0,4}})"
        end = rf"(?P<number>{_NUMBER})(?P<tail>{_TAIL}{{0,6}})"
        numbered = rf"{_QUARTER} {_NUMBER}|[0-9]{{1,3}}(?:-?[йя])? (?:{_QUARTER}|линия)"
        street = rf"(?:{_TYPE} ?{_NAME}|{_NAME} {_TYPE}|{numbered})"
        known = "|".join(sorted(self._known, key=len, reverse=True))
        self._typed = re.compile(rf"{head}(?P<street>{street}){_SEP}(?P<house>{_HOUSE} ?)?{end}")
        self._housed = re.compile(
            rf"{head}(?:(?P<street>{_WORD}(?: {_WORD})?)[ ,]{{1,2}})?(?P<house>{_HOUSE} ?){end}"
        )
        self._named = re.compile(rf"{head}(?P<street>(?:{known})(?![а-яё]))[ ,]{{1,2}}{end}")
        self._in_city = re.compile(
            rf"(?<![а-яё0-9])(?P<head>{index}(?:г\.? ?)?{city}[ ,]{{1,3}})"
            rf"(?:(?:на|по) )?(?P<street>{_WORD}(?: {_WORD})?)[ ,]{{1,2}}{end}"
        )
        self._flat = re.compile(
            rf"{head}(?P<street>{_WORD}(?: {_WORD})?)[ ,]{{1,2}}(?P<number>{_NUMBER})"
            rf"(?P<tail>{_SEP}(?:квартир[аыу]|кв)(?![а-яё])\.? ?{_NUMBER}{_TAIL}{{0,6}})"
        )
        self._introduced = re.compile(
            rf"(?P<head>)(?P<street>{_NAME}(?:[ ,.]{{1,2}}{_WORD}){{0,3}}?)[ ,.]{{1,3}}{end}"
        )

    def find(self, view: View) -> Iterator[PersonalFinding]:
        """The addresses of a text, in its order."""
        text = view.lower
        spans: list[tuple[int, int]] = []
        if _HINT.search(text):
            spans += _accepted(self._typed, text, lambda match: self._typed_span(match, view))
            spans += _accepted(self._housed, text, lambda match: self._housed_span(match, view))
            spans += _accepted(
                self._flat, text, lambda match: match.span() if self._is_named(match, view, True) else None
            )
            for intro in _INTRO.finditer(text):
                match = self._introduced.match(text, intro.end())
                if match and self._is_named(match, view, False):
                    spans.append(match.span())
        spans += [match.span() for match in self._named.finditer(text)]
        spans += _accepted(
            self._in_city, text, lambda match: match.span() if self._is_named(match, view, True) else None
        )
        for start, end in _merged(sorted(spans), text):
            key = re.sub("[^а-я0-9]", "", text[start:end])
            yield PersonalFinding(*view.original(start, end), Entity.ADDRESS, key)

    def _typed_span(self, match: re.Match[str], view: View) -> tuple[int, int] | None:
        street = match["street"]
        kind = re.search(rf"(?<![а-яё]){_TYPE}", street)
        if kind is not None and kind[0] in _SHORT:
            return None
        if any(word in self._not_streets for word in _LONG_WORD.findall(street)):
            return None
        surely = match["house"] or _FLAT.search(match["tail"]) or (match["tail"] and street[0].isdigit())
        return match.span() if surely or self._looks_like_street(match, view) else None

    def _housed_span(self, match: re.Match[str], view: View) -> tuple[int, int] | None:
        """With the street before it if there is one; without, only a house with a flat."""
        street = match["street"]
        if street and self._looks_like_street(match, view):
            return match.span()
        if match["head"]:
            return match.span() if not street else None
        return (match.start("house"), match.end()) if _FLAT.search(match["tail"]) else None

    def _is_named(self, match: re.Match[str], view: View, strict: bool) -> bool:
        named = _LONG_WORD.findall(match["street"])
        if not named or any(word in self._not_streets for word in named):
            return False
        return self._looks_like_street(match, view) or (not strict and bool(_FLAT.search(match["tail"])))

    def _looks_like_street(self, match: re.Match[str], view: View) -> bool:
        start, end = match.span("street")
        found = _LONG_WORD.findall(view.text, start, end)
        # «улица Набережная»: the name may be a word for a street too.
        named = [word for word in found if not _KIND.fullmatch(word.lower())] or found
        if not named or any(word.lower() in self._not_streets for word in named):
            return False
        last = named[-1]
        return last[0].isupper() or last in self._known or _STREET_ENDING.search(last) is not None


def _accepted(
    pattern: re.Pattern[str], text: str, accept: Callable[[re.Match[str]], tuple[int, int] | None]
) -> Iterator[tuple[int, int]]:
    """The accepted matches; behind the first word of another one the search goes on."""
    match = pattern.search(text)
    while match:
        span = accept(match)
        if span:
            yield span
        after = _FIRST_WORD.match(text, match.start())
        match = pattern.search(text, match.end() if span or after is None else after.end())


def _merged(spans: list[tuple[int, int]], text: str) -> Iterator[tuple[int, int]]:
    """Overlapping spans, and those with only a comma between, as one."""
    return joined_spans(spans, lambda end, start: start <= end or not text[end:start].strip(" ,.;"))


def _stem(city: str) -> str:
    """A city without the ending that its cases change."""
    stem = city.rstrip("аяьый") if len(city) > 4 else re.sub("[аиья]$", "", city)
    return stem.replace("-", "[ -]")
