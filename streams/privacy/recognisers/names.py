"""Names of persons: in any case by the dictionary and the words before them, capitalised ones by the model
too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from streams.privacy.entities import Entity
from streams.privacy.recognisers.findings import PersonalFinding, joined_spans
from streams.privacy.recognisers.latin_names import LatinNames
from streams.privacy.recognisers.name_model import NameModel
from streams.privacy.recognisers.name_words import NameWords, WordKind, ends_as_surname
from streams.privacy.recognisers.views import View
from streams.privacy.recognisers.word_lists import words as words_of

_TOKEN = re.compile(r"[А-Яа-яЁё](?:[а-яёА-ЯЁ]*(?:-[А-Яа-яЁё]{2,})*)(?![А-Яа-яЁё])|[А-Яа-яЁё]")
# Who says that a name follows. The first kind is hardly followed by anything else.
_SAYS_NAME = re.compile(
    r"(?<![а-яё])(?:зовут(?: меня)?|имя(?: мо[её])?|мо[её] имя|фио|ф\. ?и\. ?о\.?)[ :\-«\"]{1,3}$"
)
_SAYS_PERSON = re.compile(
    r"(?<![а-яё])(?:на имя|на|от|это|для|к|с уважением|фамили[яюией]|получател[ьюяе]м?|отправител[ьюяе]м?|"
    r"плательщик[ауеом]*|владел[еь]ц[ауем]*|держател[ьюя]|абонент[ауыом]*|клиент[ауыоме]*|заявител[ьюя]|"
    r"пациент[ау]?|г-на?|г-жа|господин[ау]?|госпож[аиеу]|граждан(?:ин|ка)[аеу]?|гр|оператор[ауше]*|"
    r"менеджер[ауом]*|сотрудни[кц][ауеой]*|курьер[ауом]*|мастер[ауом]*|консультант[ауом]*|специалист[ауом]*|"
    r"водител[ьюя]|муж[ау]?|жен[аеуы]|сын[ау]?|брат[ау]?|сестр[аеуы]|оформлен[аоы]? на|говорит|беспокоит|"
    r"пишет)[ :,.\-]{1,3}$"
)
# One word alone that the dictionary does not hold is a name behind these.
_SAYS_ROLE = re.compile(
    r"(?<![а-яё])(?:на имя|фамили[яюией]|получател|отправител|плательщик|владел|держател|абонент|клиент|"
    r"заявител|пациент|господин|госпож|граждан|оператор|менеджер|сотрудни|курьер|мастер|консультант|специалист|"
    r"водител|муж|жен[аыуе]|дочк|дочер|сын)[а-яё]*[ :,.\-]{1,3}$"
)
# Places, shops and works are called by first names: в г. Владимир, магазин «Анна».
_SAYS_PLACE = re.compile(
    r"(?<![а-яё])(?:во?|из|г\.?|город[ауе]?|городом|област[иь]|магазин[а-я]*|сет[иь]|кафе|ресторан[а-я]*|"
    r"салон[а-я]*|аптек[а-я]*|отел[а-я]*|гостиниц[а-я]*|санатори[а-я]*|пансионат[а-я]*|клиник[а-я]*|тц|трц|жк|"
    r"бренд[а-я]*|марк[аиуе]|колонк[а-я]*|станци[а-я]*|яндекс|сериал[а-я]*|фильм[а-я]*|книг[а-я]*|опер[аеуы]|"
    r"спектакл[а-я]*|теплоход[а-я]*|ураган[а-я]*)[ :\"«]{1,3}$"
)
_QUOTED = re.compile(r"[«\"][^«»\"]*[»\"]")
# Of a shop, a work or a legend, and nobody's who calls.
_TITLES = re.compile(
    r"(?<![а-яё])(?:мари[яиюей][ -]?ра|анн[аыуе] каренин(?:а|ой|у)|евгени[йяюе]м? онегин[а-яё]*|"
    r"тарас[ауе]? бульб[а-яё]*|дяд[яеию] ван[яеию]|илья? муром[а-яё]*|александр[ауе]? невск[а-яё]*|"
    r"иван[ауе]? грозн[а-яё]*|петр[ауе]? перв[а-яё]*|гарри поттер[а-яё]*|шерлок[ауе]? холмс[а-яё]*|"
    r"ив роше|ив сен[ -]лоран|том форд|нин[аы] рич+и|юри[йяюе]м? долгорук[а-яё]*)(?![а-яё])"
)
# As a card has it.
_LATIN = re.compile(
    r"(?:держател[ьюяе]м?|владел[еь]ц[ауем]*|на имя|имя на карте|cardholder|зовут)[ :\-]{1,3}"
    r"([A-Za-z]{2,20} [A-Za-z]{2,20})(?![^\W_])",
    re.IGNORECASE,
)
_ADJECTIVE = re.compile(r"[а-яё]{4,}[сц]к(?:ий|ого|ому|им|ом|ая|ой|ую)$")
_SENTENCE_START = re.compile(r"(?:^|[.!?…\n:]) ?[\"«(]?\Z")
_BEFORE = 24


class _Token(NamedTuple):
    start: int
    end: int
    lower: str
    kind: WordKind
    capital: bool
    initial: bool

    @property
    def sure(self) -> bool:
        """Whether it is a name and nothing else."""
        return self.kind.named and not self.kind.ordinary and self.kind.known


class PersonNames:
    """Finds persons. Loads dictionary and model once: the process then holds some 200 MB."""

    def __init__(self) -> None:
        self._words = NameWords()
        self._model = NameModel()
        self._latin = LatinNames(self._words.first_names)
        self._streets = words_of("streets")
        self._never = words_of("never_names")

    def find(self, view: View) -> Iterator[PersonalFinding]:
        """The persons of a text, in its order; mentions of one person have one key."""
        tokens = list(self._tokens(view))
        spans = [(run[0].start, run[-1].end + run[-1].initial) for run in self._runs(tokens, view)]
        if any(token.capital and not (token.kind.ordinary and not token.kind.named) for token in tokens):
            persons = (
                self._person(start, end, tokens, view) for start, end in self._model.persons(view.text)
            )
            spans += [span for span in persons if span]
        spans += [match.span(1) for match in _LATIN.finditer(view.text)]
        spans += self._latin.find(view.text)
        if spans and _TITLES.search(view.lower.replace("ё", "е")):
            titles = [match.span() for match in _TITLES.finditer(view.lower.replace("ё", "е"))]
            spans = [
                (start, end) for start, end in spans if not any(a < end and start < b for a, b in titles)
            ]
        people: list[frozenset[str]] = []
        for start, end in joined_spans(sorted(spans), lambda end, start: start < end):
            lemmas = frozenset(
                token.lower if token.initial else token.kind.lemma or token.lower
                for token in tokens
                if start <= token.start < end
            ) or frozenset({view.lower[start:end]})
            yield PersonalFinding(*view.original(start, end), Entity.NAME, str(_known(lemmas, people)))

    def _tokens(self, view: View) -> Iterator[_Token]:
        for match in _TOKEN.finditer(view.text):
            start, end = match.span()
            lower = view.lower[start:end]
            capital = match[0][0].isupper() and not match[0].isupper()
            initial = end - start == 1 and view.text[end : end + 1] == "."
            kind = (
                WordKind(known=False) if end - start < 2 or lower in self._never else self._words.kind(lower)
            )
            yield _Token(start, end, lower, kind, capital, initial)

    def _runs(self, tokens: Sequence[_Token], view: View) -> Iterator[Sequence[_Token]]:
        """Neighbouring words that make up names."""
        first = 0
        while first < len(tokens):
            last = first
            if self._may_belong(tokens[first]):
                while last + 1 < len(tokens) and self._goes_on(tokens, last, view.text):
                    last += 1
                name = self._name_in(list(tokens[first : last + 1]), view)
                if name:
                    yield self._with_surname(name, tokens, view.text)
            first = last + 1

    def _goes_on(self, tokens: Sequence[_Token], last: int, text: str) -> bool:
        return self._may_belong(tokens[last + 1]) and self._follows(tokens[last], tokens[last + 1], text)

    def _with_surname(self, name: Sequence[_Token], tokens: Sequence[_Token], text: str) -> Sequence[_Token]:
        """``name``, and a neighbour that is an adjective and may be a surname: анна петровна белинская."""
        words = sum(not token.initial for token in name)
        if any(token.kind.surname for token in name) or not (words > 1 or name[0].kind.first):
            return name
        before, after = tokens.index(name[0]) - 1, tokens.index(name[-1]) + 1
        if after < len(tokens) and self._is_adjective(name[-1], tokens[after], tokens[after], text):
            return [*name, tokens[after]]
        if before >= 0 and self._is_adjective(tokens[before], name[0], tokens[before], text):
            return [tokens[before], *name]
        return name

    def _is_adjective(self, one: _Token, two: _Token, asked: _Token, text: str) -> bool:
        return self._follows(one, two, text) and _ADJECTIVE.search(asked.lower) is not None

    def _may_belong(self, token: _Token) -> bool:
        if token.initial:
            return True
        return token.lower not in self._never and (
            token.kind.named or (token.capital and not token.kind.ordinary)
        )

    def _follows(self, one: _Token, two: _Token, text: str) -> bool:
        gap = text[one.end : two.start]
        if one.initial:
            return gap in (".", ". ")
        return gap in (" ", "  ") or (two.initial and gap == "")

    def _name_in(self, run: list[_Token], view: View) -> Sequence[_Token] | None:
        """The part of ``run`` that is a name: None if nothing is."""
        before = view.lower[max(0, run[0].start - _BEFORE) : run[0].start]
        says_name = _SAYS_NAME.search(before) is not None
        says_person = says_name or _SAYS_PERSON.search(before) is not None
        while run and not says_name and self._is_loose(run[0], run[1:]):
            run = run[1:]
            says_person = False
        while run and self._is_loose(run[-1], run[:-1]) and not (says_name and len(run) == 1):
            run = run[:-1]
        words = [token for token in run if not token.initial]
        initials = len(run) - len(words)
        if not words:
            return None
        sure = [token for token in words if token.sure]
        if any(token.kind.patronymic and not token.kind.ordinary for token in words) and (
            len(words) > 1 or words[0].kind.known
        ):
            return run
        if len(run) == 1 and not says_name and _is_called_so(words[0], view.text, view.lower):
            return None
        if any(token.kind.first for token in sure) or len(sure) > 1:
            return run
        if says_name and (words[0].kind.named or words[0].capital):
            return run
        if any(token.kind.surname for token in words) and (
            initials >= 2 or (initials and any(token.capital for token in words))
        ):
            return run
        if says_person and sure and sure[0].lower not in self._streets:
            return run
        if _SAYS_ROLE.search(before) and self._may_be_unknown_name(words[0]):
            return run
        both = any(token.kind.first for token in words) and any(token.kind.surname for token in words)
        return run if len(words) > 1 and both else None

    def _may_be_unknown_name(self, word: _Token) -> bool:
        """Whether a word that the dictionary does not hold is capitalised, or ends as surnames do."""
        if word.kind.known or len(word.lower) < 4:
            return False
        return word.capital or (word.kind.surname and len(word.lower) > 5)

    def _is_loose(self, token: _Token, others: Sequence[_Token]) -> bool:
        """Whether a word at the edge of a run may as well be no part of the name."""
        if token.initial or token.sure:
            return False
        if token.capital and token.kind.named:
            return False
        if token.kind.first or token.kind.surname or token.kind.patronymic:
            # The whole name decides on a word that is a name as well.
            unlike = not token.kind.first and not ends_as_surname(token.lower)
            return token.kind.ordinary and len(others) >= 2 and unlike
        return not (token.capital and others)

    def _person(self, start: int, end: int, tokens: Sequence[_Token], view: View) -> tuple[int, int] | None:
        """The model's person without ordinary words at the edges; None for a street, or for nothing left.

        An ordinary word with a capital may be a name, unless it begins a sentence.
        """
        text = view.text
        words = [token for token in tokens if start <= token.start < end]
        while words and not self._may_be_named(words[0]):
            if words[0].capital and not _SENTENCE_START.search(text, 0, words[0].start):
                break
            del words[0]
        while words and not words[-1].capital and not self._may_be_named(words[-1]):
            del words[-1]
        if not any(self._may_be_named(word) and not word.initial for word in words):
            return None
        if len(words) == 1:
            # Where a sentence begins, the capital says nothing.
            begins = _SENTENCE_START.search(text, 0, words[0].start) is not None
            if (
                _is_called_so(words[0], text, view.lower)
                or words[0].lower in self._streets
                or (begins and not words[0].kind.named)
            ):
                return None
        return words[0].start, words[-1].end + words[-1].initial

    def _may_be_named(self, token: _Token) -> bool:
        if token.initial:
            return True
        known = token.kind.named or not token.kind.ordinary
        return known and len(token.lower) > 1 and token.lower not in self._never


def _is_called_so(word: _Token, text: str, lower: str) -> bool:
    """Whether a place or a shop is called by the first name ``word``, which stands alone."""
    if _SAYS_PLACE.search(lower[max(0, word.start - _BEFORE) : word.start]):
        return True
    around = text[max(0, word.start - 1) : word.end + 1]
    return _QUOTED.fullmatch(around) is not None


def _known(lemmas: frozenset[str], people: list[frozenset[str]]) -> int:
    """The number of the person with these names: one whose names hold them, or are held by them."""
    for number, names in enumerate(people):
        if lemmas <= names or names <= lemmas:
            people[number] = names | lemmas
            return number
    people.append(lemmas)
    return len(people) - 1
