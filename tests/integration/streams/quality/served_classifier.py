"""An OpenAI-compatible server over classifiers whose every probability is known, as vLLM serves a model.

Labels are asked for by a JSON schema with an `enum`, or by letters that the system message lists. The answer
comes in pieces, each with its log probability and those of the likeliest other pieces at that place.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from tests.chat_server import ChatServer
from tests.unit.streams.quality.long_runs.overconfident import Overconfident

_QUERY = re.compile(r"<query>\s*(.*?)\s*</query>", re.DOTALL)
_OPTION = re.compile(r"^([A-Z])\. ([\w.-]+) \(", re.MULTILINE)
_MOST = 20
# vLLM's value for what is impossible.
_NEVER = -9999.0

Chances = Mapping[str, float]


class ServedClassifiers(ChatServer):
    """A model name for each classifier."""

    def __init__(self, models: Mapping[str, Overconfident]) -> None:
        super().__init__(models)
        self._models = models
        self._known: dict[tuple[str, str], Chances] = {}

    def chances(self, model: str, text: str) -> Chances:
        """The probability of each label."""
        if (found := self._known.get((model, text))) is None:
            one = self._models[model]
            found = dict(zip(one.labels, one.chances([text])[0].tolist(), strict=True))
            self._known[model, text] = found
        return found

    async def complete(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked.get("model") not in self._models:
            return web.json_response({"error": {"message": "no such model", "code": 404}}, status=404)
        system, user = (
            "".join(one["content"] for one in asked["messages"] if one["role"] == role)
            for role in ("system", "user")
        )
        match = _QUERY.search(user)
        chances = self.chances(asked["model"], json.loads(match[1]) if match else user)
        schema = ((asked.get("response_format") or {}).get("json_schema") or {}).get("schema") or {}
        allowed = (schema.get("properties") or {}).get("label", {}).get("enum")
        letters = dict(_OPTION.findall(system))
        if allowed:
            pieces = _of_object(_among(chances, allowed))
        elif (choice := (asked.get("structured_outputs") or {}).get("choice")) and letters:
            by_letter = {letter: chances[letters[letter]] for letter in choice}
            pieces = [(max(by_letter, key=lambda one: by_letter[one]), by_letter)]
        else:
            pieces = [("OK", {"OK": 1.0})]
        tokens = [_token(text, others, asked.get("top_logprobs") or 0) for text, others in pieces]
        message = {"role": "assistant", "content": "".join(text for text, _ in pieces)}
        logprobs = {"content": tokens} if asked.get("logprobs") else None
        return web.json_response(
            {
                "object": "chat.completion",
                "model": asked["model"],
                "choices": [{"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": len(system) // 3, "completion_tokens": len(pieces)},
            }
        )


def _among(chances: Chances, allowed: list[str]) -> Chances:
    total = sum(chances[name] for name in allowed)
    return {name: chances[name] / total for name in allowed}


def _of_object(chances: Chances) -> list[tuple[str, Chances]]:
    """`{"label": "..."}` in pieces: the likeliest label by its first three characters and the rest, each with
    the probabilities that the labels that begin so have together. Where another label begins with this one,
    the quote decides.
    """
    label = max(chances, key=lambda name: chances[name])
    found: list[tuple[str, Chances]] = [
        ('{"', {'{"': 1.0}),
        ("label", {"label": 1.0}),
        ('": "', {'": "': 1.0}),
    ]
    left = dict(chances)
    for place in (0, 1):
        piece = _piece(label, place)
        mass: defaultdict[str, float] = defaultdict(float)
        for name, chance in left.items():
            mass[_piece(name, place)] += chance
        total = sum(mass.values())
        found.append((piece, {text: one / total for text, one in mass.items()}))
        left = {name: one for name, one in left.items() if _piece(name, place) == piece}
    return found


def _piece(label: str, place: int) -> str:
    return label[:3] if place == 0 else label[3:] + '"}'


def _token(text: str, chances: Chances, top: int) -> dict[str, Any]:
    def entry(piece: str) -> dict[str, Any]:
        chance = chances[piece]
        logprob = math.log(chance) if chance > 0 else _NEVER
        return {"token": piece, "logprob": logprob, "bytes": list(piece.encode())}

    likeliest = sorted(chances, key=lambda piece: -chances[piece])[: min(top, _MOST)]
    return {**entry(text), "top_logprobs": [entry(piece) for piece in likeliest]}
