"""The stand-in's answers: text that fits the request's schema, its tokens and their logprobs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from connectors.llm.standin.words import Scorer, reword

_QUERY = re.compile(r"<query>\s*(.*?)\s*</query>", re.DOTALL)
_OPTION = re.compile(r"^([A-Z])[.)] ([\w.-]+) ", re.MULTILINE)
_PIECE = re.compile(r"_?[^_]+|_")
_LEAST_LOGPROB = -30.0


@dataclass(slots=True)
class StandinToken:
    """A token of an answer, its logprob, and its alternatives."""

    text: str
    logprob: float = 0.0
    others: list[tuple[str, float]] = field(default_factory=list)


@dataclass(slots=True)
class StandinAnswer:
    """``kind`` is `label`, `augment` or `other`; ``query`` is the text of the request."""

    kind: str
    query: str
    text: str
    tokens: list[StandinToken]


def query_of(messages: Sequence[dict[str, Any]]) -> str:
    """The query in the last user message: the text between its delimiters, otherwise the whole message."""
    content = next((text_of(one) for one in reversed(messages) if one.get("role") == "user"), "")
    match = _QUERY.search(content)
    inside = match.group(1) if match else content
    try:
        decoded = orjson.loads(inside)
    except orjson.JSONDecodeError:
        return inside
    return decoded if isinstance(decoded, str) else inside


def text_of(message: dict[str, Any]) -> str:
    """The text of a message, whose content may be a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


def answer(request: dict[str, Any], scorer: Scorer, *, unknown_label: bool = False) -> StandinAnswer:
    """The answer to a chat completion request.

    A label is requested by an `enum`, by a `choice`, or by letters under which the system message lists the
    labels; variants by an array of strings. Without any of these the system message decides: it mentions
    `variants` or a `label`.
    """
    messages = request["messages"]
    query = query_of(messages)
    writer = _Writer(scorer, query, unknown_label)
    choice = (request.get("structured_outputs") or {}).get("choice")
    options = _options(messages)
    schema = ((request.get("response_format") or {}).get("json_schema") or {}).get("schema")
    if options and not schema and (choice or request.get("max_tokens") == 1):
        writer.letter({k: v for k, v in options.items() if not choice or k in choice})
    elif choice:
        writer.label([str(one) for one in choice])
    elif schema:
        writer.fill(schema)
    elif '"variants"' in "".join(text_of(one) for one in messages if one.get("role") == "system"):
        writer.fill({"type": "object", "properties": {"variants": {"type": "array", "minItems": 3}}})
    else:
        writer.fill({"type": "object", "properties": {"label": {"enum": list(scorer.labels)}}})
    return StandinAnswer(writer.kind, query, "".join(token.text for token in writer.tokens), writer.tokens)


def _options(messages: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Letter to label, if the system message lists them as lines like `A. label (`."""
    system = "".join(text_of(one) for one in messages if one.get("role") == "system")
    return dict(_OPTION.findall(system))


class _Writer:
    """Writes one answer, token by token."""

    def __init__(self, scorer: Scorer, query: str, unknown_label: bool) -> None:
        self.kind = "other"
        self.tokens: list[StandinToken] = []
        self._scorer = scorer
        self._query = query
        self._unknown_label = unknown_label

    def fill(self, schema: dict[str, Any]) -> None:
        """Append a value that fits ``schema`` (the part of JSON Schema that guided decoding uses)."""
        if "const" in schema:
            self._say(orjson.dumps(schema["const"]).decode())
        elif "enum" in schema:
            self._enum(schema["enum"])
        elif "anyOf" in schema or "oneOf" in schema:
            self.fill((schema.get("anyOf") or schema["oneOf"])[0])
        else:
            self._by_type(schema)

    def _by_type(self, schema: dict[str, Any]) -> None:
        kind = schema.get("type", "object")
        kind = kind[0] if isinstance(kind, list) else kind
        if kind == "object":
            self._object(schema)
        elif kind == "array":
            self._array(schema)
        elif kind == "string":
            self._string(reword(self._query, 1)[0], schema)
        else:
            low = schema.get("minimum", 0)
            self._say({"boolean": "false", "null": "null"}.get(kind, str(low)))

    def _object(self, schema: dict[str, Any]) -> None:
        opening = '{"'
        for name, part in (schema.get("properties") or {}).items():
            self._say(opening)
            self._say(name)
            self._say('":')
            self.fill(part)
            opening = ',"'
        self._say("}" if opening == ',"' else "{}")

    def _array(self, schema: dict[str, Any]) -> None:
        items = schema.get("items") or {"type": "string"}
        count = max(schema.get("minItems", 0), min(schema.get("maxItems", 3), 3))
        if items.get("type") != "string" or "enum" in items:
            count = schema.get("minItems", 1)
            texts = None
        else:
            self.kind = "augment"
            texts = reword(self._query, count)
        self._say("[")
        for number in range(count):
            if number:
                self._say(",")
            if texts is None:
                self.fill(items)
            else:
                self._string(texts[number], items)
        self._say("]")

    def _string(self, text: str, schema: dict[str, Any]) -> None:
        text = text[: schema.get("maxLength", 4000)]
        encoded = orjson.dumps(text.encode("utf-8", "replace").decode()).decode()
        for start in range(0, len(encoded), 3):  # about as many tokens as Russian text has
            self._say(encoded[start : start + 3])

    def _enum(self, values: list[Any]) -> None:
        if not all(isinstance(value, str) for value in values):
            self._say(orjson.dumps(values[0]).decode())
            return
        self._say('"')
        self.label(values)
        self._say('"')

    def label(self, among: Sequence[str]) -> None:
        """Append the most probable label of ``among``, in pieces as a tokenizer would cut it."""
        self.kind = "label"
        if self._unknown_label:
            self._say("no_such_label")
            return
        probabilities = self._scorer.probabilities(self._query, among)
        best = max(probabilities, key=lambda label: probabilities[label])
        candidates = {label: _PIECE.findall(label) for label in among}
        for position, piece in enumerate(candidates[best]):
            mass: dict[str, float] = {}
            for label, pieces in candidates.items():
                # A label that ends here would be followed by the end of the answer.
                following = pieces[position] if position < len(pieces) else '"'
                mass[following] = mass.get(following, 0.0) + probabilities[label]
            total = sum(mass.values())
            logprobs = {text: _log(share / total) for text, share in mass.items()}
            others = sorted(logprobs.items(), key=lambda item: -item[1])
            self.tokens.append(StandinToken(piece, logprobs[piece], others))
            candidates = {
                label: pieces
                for label, pieces in candidates.items()
                if position < len(pieces) and pieces[position] == piece
            }

    def letter(self, options: dict[str, str]) -> None:
        """Append the letter of the most probable label, with the probabilities of all letters."""
        self.kind = "label"
        if self._unknown_label:
            self._say("?")
            return
        probabilities = self._scorer.probabilities(self._query, list(options.values()))
        logprobs = {letter: _log(probabilities[label]) for letter, label in options.items()}
        others = sorted(logprobs.items(), key=lambda item: -item[1])
        self.tokens.append(StandinToken(others[0][0], others[0][1], others))

    def _say(self, text: str) -> None:
        self.tokens.append(StandinToken(text))


def _log(probability: float) -> float:
    return max(math.log(probability), _LEAST_LOGPROB) if probability > 0 else _LEAST_LOGPROB


def logprobs_of(tokens: Sequence[StandinToken], top: int) -> dict[str, Any]:
    """`choices[].logprobs` as OpenAI and vLLM send them, with ``top`` alternatives for each token."""
    return {
        "content": [
            {
                "token": token.text,
                "logprob": token.logprob,
                "bytes": list(token.text.encode()),
                "top_logprobs": [
                    {"token": text, "logprob": logprob, "bytes": list(text.encode())}
                    for text, logprob in (token.others or [(token.text, token.logprob)])[:top]
                ],
            }
            for token in tokens
        ]
    }
