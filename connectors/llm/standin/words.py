"""How the stand-in labels and rewords: by the words of the taxonomy, and by labelled queries where they have
its labels. Deterministic, without a model.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import yaml

from connectors.llm.standin.taught import Taught, taught_by

_WORD = re.compile(r"[^\W\d_]+")
# The text after this says what a label is not about; its words would point to the wrong label.
_NOT_ABOUT = re.compile(r"(?:,\s*)?\b(?:а не|но не|тогда как|хотя|даже если)\b[^.;]*")
_STOP = frozenset(
    """
    а без бы был была было были быть в вам вас все вы где для до его ее если есть еще же за и из
    или им их как какая какие какой ко когда кто ли либо меня мне мой моя мою мы на над не нет ни
    но о об он она они от по под пока при про с сам сама само самом свой со так там то тот тут ты у
    уже чем что это этот я клиент клиенту нужна хочет можно нужно
    """.split()  # noqa: SIM905 - a list of words reads better than a list of strings
)
_LOOK_ALIKE = str.maketrans("aceopxykmthb", "асеорхукмтнв")
_SHORTEST_PREFIX = 4
# Words and n-grams tell much of the same: with this the mean confidence is about the accuracy.
_LESS_SURE = 0.85


class Scorer:
    """Gives each label a probability for a text, by the words that the taxonomy uses for it.

    A word points to a label if they share a prefix of at least four letters. It counts more the longer the
    prefix is and the fewer labels use it. This simple stemming is enough for Russian endings here.
    """

    def __init__(self, labels: dict[str, list[tuple[float, str]]], taught: Taught | None = None) -> None:
        """``labels``: for each label its texts, each with a weight. ``taught``: counts where it knows exactly
        these labels.
        """
        self.labels = tuple(labels)
        self._taught = taught if taught is not None and set(taught.labels) == set(labels) else None
        weights: dict[str, list[float]] = {}
        for column, texts in enumerate(labels.values()):
            for weight, text in texts:
                for word in _words(text):
                    for prefix in _prefixes(word):
                        row = weights.setdefault(prefix, [0.0] * len(self.labels))
                        row[column] = max(row[column], weight)
        for prefix, row in weights.items():
            used_by = sum(1 for value in row if value)
            rarity = math.log(1 + len(row) / used_by) - math.log(2)
            share = min(1.0, len(prefix) / 6)
            weights[prefix] = [value * rarity * share for value in row]
        self._weights = weights
        self._fallback = self.labels.index("other") if "other" in self.labels else len(self.labels) - 1
        self._word = lru_cache(maxsize=20_000)(self._weigh)

    def _weigh(self, word: str) -> tuple[float, ...]:
        """The weight of ``word`` for each label: the longest prefix that the taxonomy has decides."""
        for prefix in _prefixes(word):
            if prefix in self._weights:
                return tuple(self._weights[prefix])
        return ()

    def probabilities(self, text: str, among: Sequence[str] | None = None) -> dict[str, float]:
        """The probability of each label (of ``among``, if given); they sum to 1."""
        scores = [0.0] * len(self.labels)
        scores[self._fallback] = 0.4
        for word in set(_words(text[:4000])):
            for column, weight in enumerate(self._word(word)):
                scores[column] += weight
        known = dict(zip(self.labels, scores, strict=True))
        learnt = self._taught.evidence(text) if self._taught is not None else {}
        sharpness = 1.0 if self._taught is None else _LESS_SURE
        chosen = {
            label: sharpness * (1.5 * known.get(label, 0.0) + learnt.get(label, 0.0))
            for label in (among if among is not None else self.labels)
        }
        highest = max(chosen.values())
        powers = {label: math.exp(score - highest) for label, score in chosen.items()}
        total = sum(powers.values())
        return {label: power / total for label, power in powers.items()}


def scorer_from(path: Path, taught: Taught | None = None) -> Scorer:
    """The scorer for a taxonomy file: a list `domains` of name, title, description and examples.
    ``taught``: None: by the queries of the package.
    """
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))["domains"]
    return Scorer(
        {
            str(entry["name"]): [
                (1.5, str(entry.get("title", ""))),
                (0.8, _NOT_ABOUT.sub("", str(entry.get("description", "")))),
                *((1.0, str(example)) for example in entry.get("examples") or ()),
            ]
            for entry in entries
        },
        taught_by() if taught is None else taught,
    )


def _words(text: str) -> list[str]:
    text = unicodedata.normalize("NFKC", text).lower().replace("ё", "е")
    found = []
    for word in _WORD.findall(text):
        if not word.isascii():
            word = word.translate(_LOOK_ALIKE)
        if word not in _STOP and len(word) > 2:
            found.append(word)
    return found


def _prefixes(word: str) -> list[str]:
    """The prefixes of ``word`` that count, longest first."""
    if len(word) <= _SHORTEST_PREFIX:
        return [word]
    return [word[:end] for end in range(len(word), _SHORTEST_PREFIX - 1, -1)]


_OPENINGS = {
    "CYRILLIC": ("", "Подскажите, ", "Добрый день! ", "Помогите разобраться: ", "Уточните, пожалуйста, "),
    "LATIN": ("", "Please tell me, ", "Good afternoon! ", "Help me with this: ", "Could you clarify, "),
}
_CLOSINGS = {
    "CYRILLIC": ("", ", заранее спасибо", ", жду ответа", ", это срочно"),
    "LATIN": ("", ", thanks in advance", ", waiting for an answer", ", it is urgent"),
}
_SYNONYMS = (
    ("как ", "каким образом "),
    ("почему ", "по какой причине "),
    ("не могу ", "не получается "),
    ("не работает", "перестало работать"),
    ("хочу ", "мне нужно "),
    ("где ", "в каком месте "),
    ("верните", "прошу вернуть"),
)


def reword(text: str, count: int) -> list[str]:
    """``count`` different rewordings of ``text`` in its own script."""
    text = " ".join(text.split())
    script = main_script(text)
    body = text.rstrip(" .!?…")
    changed = body
    for old, new in _SYNONYMS:
        changed = re.sub(rf"\b{re.escape(old)}", new, changed, flags=re.IGNORECASE)
    found: list[str] = []
    if changed != body:
        found.append(changed)
    if script in _OPENINGS:
        for closing in _CLOSINGS[script]:
            for number, opening in enumerate(_OPENINGS[script]):
                if opening or closing:
                    found.append(f"{opening}{(changed if number % 2 else body) or text}{closing}")
    else:
        words = text.split()
        found += [" ".join(words[turn:] + words[:turn]) for turn in range(1, len(words))]
    unlike = [variant for variant in dict.fromkeys(found) if variant != text]
    for number in range(count - len(unlike)):
        unlike.append(text + "!?"[number % 2] * (number // 2 + 1))
    return unlike[:count]


def main_script(text: str) -> str:
    """The script of most letters by its Unicode name, such as `CYRILLIC`; empty without letters."""
    counts: dict[str, int] = {}
    for letter in text[:1000]:
        if letter.isalpha():
            script = unicodedata.name(letter, "?").split(" ", 1)[0]
            counts[script] = counts.get(script, 0) + 1
    return max(counts, key=lambda script: counts[script]) if counts else ""
