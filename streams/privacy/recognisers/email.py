"""E-mail addresses: as they are, with blanks inside, and spoken: ``ivan собака mail точка ru``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from streams.privacy.entities import Entity
from streams.privacy.recognisers.findings import PersonalFinding
from streams.privacy.recognisers.views import View

# The sign, and what is written or said for it.
_AT = re.compile(r" ?@ ?|[ ]?[\[(] ?(?:at|собака|эт) ?[\])] ?| (?:собак[аи]|собачка|эт|at) ")
_SIGN = "(?: ?(?:точка|тире|дефис|dot|(?:нижнее )?подч[её]ркивание) ?)"
_MAY_BE_AT = re.compile(r"@|собак|собачк|[ (\[](?:эт|at)[ )\]]")
_LOCAL = re.compile(rf"[\w.+\-]{{1,64}}(?:{_SIGN}[\w.+\-]{{1,64}}){{0,4}}$")
_DOT = r"(?: ?[.,] ?| ?[\[(] ?(?:dot|точка) ?[\])] ?| (?:точка|dot) )"
_TOP = r"(?:ру|ком|рф|нет|орг|[a-z]{2,12}|xn--[a-z0-9]{1,20})"
_DOMAIN = re.compile(
    rf"[\w\-]{{1,63}}(?:\.[\w\-]{{1,63}}){{0,3}}?{_DOT}{_TOP}(?:\.[a-z]{{2,12}}){{0,2}}(?![\w])"
)
# Well-known hosts are complete without their dot: gmail com.
_KNOWN = re.compile(
    r"(?:gmail|mail|yandex|ya|bk|list|inbox|rambler|hotmail|outlook|icloud|yahoo|джимейл|гмейл|мэйл|мейл|майл|"
    r"яндекс|рамблер)(?:" + _DOT + r"| )?(?:ru|com|ру|ком)?(?![\w])"
)
_LONGEST_LOCAL, _LONGEST_DOMAIN = 128, 256


def find_emails(view: View) -> Iterator[PersonalFinding]:
    """The e-mail addresses of a text, in its order. Steps grow with the text's length."""
    text = view.lower
    if not _MAY_BE_AT.search(text):
        return
    done = 0
    for at in _AT.finditer(text):
        if at.start() < done:
            continue
        window = max(done, at.start() - _LONGEST_LOCAL)
        local = _last(_LOCAL, text[window : at.start()])
        rest = text[at.end() : at.end() + _LONGEST_DOMAIN]
        domain = _DOMAIN.match(rest) or _KNOWN.match(rest)
        if local is None or domain is None:
            continue
        start, done = window + local, at.end() + domain.end()
        yield PersonalFinding(*view.original(start, done), Entity.EMAIL, text[start:done].replace(" ", ""))


def _last(pattern: re.Pattern[str], text: str) -> int | None:
    """Where the match of ``pattern`` (which ends in $) begins; None if there is none."""
    match = pattern.search(text)
    return match.start() if match else None
