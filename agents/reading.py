"""Read what a model answered: without its thoughts, as the label that it meant, or as a refusal."""

from __future__ import annotations

import re

from agents.taxonomy import Taxonomy

# `<think>`, `<thinking>`, `[THINK]`, `<seed:think>`, `◁think▷`, `<|begin_of_thought|>`, `<|START_THINKING|>`.
_NAME = r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|analysis|reflection|scratchpad)"
_OPENING, _CLOSING = rf"(?:\w+:)?(?:begin_of_|start_)?{_NAME}", rf"(?:/(?:\w+:)?|end_of_|end_){_NAME}"
_LEFT, _RIGHT = r"(?:<\|?|\[|◁)", r"(?:\|?>|\]|▷)"
# Thoughts end before the answer; if they were cut off, there is no answer.
_THOUGHTS = re.compile(
    rf"^.*{_LEFT}{_CLOSING}{_RIGHT}|{_LEFT}{_OPENING}{_RIGHT}.*$", re.DOTALL | re.IGNORECASE
)
# gpt-oss answers in channels. Some servers leave out their marks, and only the names remain.
_CHANNEL = "<|channel|>"
_FINAL = re.compile(r"^.*<\|channel\|>\s*final[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>", re.DOTALL)
_BARE_CHANNEL = re.compile(r"^\s*analysis(?=[^\W\d_a-z]|\s*[^\s\w])(?:.*assistant\s*final|.*$)", re.DOTALL)
_END = re.compile(r"<\|(?:end|return|eot_id|im_end)\|>|</s>")

_AROUND = " \t\r\n\"'`«»“”„‘’*.,;:!()[]{}<>"
_APART = re.compile(r"[\s_-]+")
_NUMBERED = re.compile(r"^(?:[A-Za-z]|\d{1,2})[).:]\s+")

_REFUSAL = re.compile(
    r"(?:i(?:'m| am) )?(?:so |very |really )?sorry\b|i (?:can't|cannot|can not|won't|will not)\b"
    r"|i(?:'m| am) (?:not able|unable)\b|as an ai\b"
    r"|(?:извините|простите|к сожалению)\b|я не (?:могу|буду|вправе)\b"
    r"|не могу (?:помочь|выполнить|ответить|обсуждать)\b|как (?:искусственный интеллект|языковая модель)\b",
    re.IGNORECASE,
)


def without_thoughts(text: str) -> str:
    """The answer without what the model thought before it; empty if it has only thought."""
    if _CHANNEL in text:
        text, found = _FINAL.subn("", text)
        if not found:
            return ""
    elif text.lstrip().startswith("analysis"):
        text = _BARE_CHANNEL.sub("", text)
    return _END.sub("", _THOUGHTS.sub("", text)).strip()


def is_refusal(text: str) -> bool:
    """Whether the model says that it will not answer."""
    return _REFUSAL.match(without_thoughts(text).replace("’", "'")) is not None


class LabelReader:
    """Finds the label that a model meant."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._names = frozenset(taxonomy.names)
        meanings: dict[str, set[str]] = {}
        for domain in taxonomy.domains:
            for word in (domain.name, domain.title, f"{domain.name} ({domain.title})"):
                meanings.setdefault(_key(word), set()).add(domain.name)
        self._by_key = {key: min(names) for key, names in meanings.items() if len(names) == 1}

    def meant(self, said: str) -> str | None:
        """The label with this name or title, whatever its case, quotes, blanks and punctuation; None if there
        is none, or several.
        """
        if said in self._names:
            return said
        found = self._by_key.get(_key(said))
        return found if found is not None else self._by_key.get(_key(_NUMBERED.sub("", said.strip(_AROUND))))


def _key(said: str) -> str:
    return _APART.sub(" ", said.strip(_AROUND).casefold()).strip()
