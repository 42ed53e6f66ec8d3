"""The cascades on the versions topic: the state of each version's, and the proxies that came whole."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from pydantic import ValidationError

from streams.core.cascade import CASCADE, POSITIONS, PROXY, RESET, CascadeState, ProxyRef, digest_of

# In memory, of proxies that no state names yet: parts come before the state that names them.
_UNNAMED_BYTES = 32_000_000


class KnownCascades:
    """What the versions topic says of cascades so far."""

    def __init__(self) -> None:
        self._states: dict[str, CascadeState] = {}
        self._wishes: dict[str, str] = {}
        self._parts: dict[str, bytes] = {}  # by key, in the order in which they came
        self._whole: dict[str, tuple[ProxyRef, bytes]] = {}  # version -> the proxy of its state
        self.positions: Mapping[str, Mapping[int, int]] = {}  # as `positions_message` has them

    def learn(self, key: str, value: bytes | None) -> bool:
        """Read a message, in order. Returns whether it is about cascades; damaged ones are ignored."""
        if key == POSITIONS:
            self._learn_positions(value)
        elif key.startswith(CASCADE):
            self._learn_state(key.removeprefix(CASCADE), value)
        elif key.startswith(RESET):
            self._learn_wish(key.removeprefix(RESET), value)
        elif key.startswith(PROXY):
            self._parts.pop(key, None)
            if value:
                self._parts[key] = value
                self._forget_unnamed()
        else:
            return False
        return True

    def state_of(self, version: str) -> CascadeState | None:
        """The newest state, if any; as `learning` while a wish to begin anew is not fulfilled."""
        state = self._states.get(version)
        if state is None or version not in self.wished:
            return state
        return state.model_copy(update={"state": "learning", "threshold": None, "certified_against": None})

    def newest_of(self, version: str) -> CascadeState | None:
        """The newest state as it was published."""
        return self._states.get(version)

    def wish_of(self, version: str) -> str:
        """The last wish of a person to begin anew; empty: none."""
        return self._wishes.get(version, "")

    @property
    def wished(self) -> list[str]:
        """Those whose last wish to begin anew is not fulfilled."""
        return [
            version
            for version, state in self._states.items()
            if self._wishes.get(version, state.reset) != state.reset
        ]

    @property
    def versions(self) -> list[str]:
        """Those that have a state."""
        return sorted(self._states)

    def proxy_of(self, version: str) -> tuple[int, bytes] | None:
        """Generation and bytes of the proxy that the state names; None unless it is whole."""
        state = self._states.get(version)
        if state is None or state.proxy is None:
            return None
        known = self._whole.get(version)
        if known is None or known[0] != state.proxy:
            packed = self.packed(version, state.proxy)
            if packed is None:
                return None
            known = self._whole[version] = (state.proxy, packed)
        return known[0].generation, known[1]

    def packed(self, version: str, proxy: ProxyRef) -> bytes | None:
        """The bytes of ``proxy``; None unless all parts are there and the digest fits."""
        parts = [self._parts.get(proxy.key(version, part).decode()) for part in range(proxy.parts)]
        whole = b"".join(part for part in parts if part is not None)
        return whole if None not in parts and digest_of(whole) == proxy.digest else None

    def _learn_state(self, version: str, value: bytes | None) -> None:
        if value is None:
            self._states.pop(version, None)
            self._whole.pop(version, None)
            return
        try:
            state = CascadeState.model_validate_json(value)
        except ValidationError:
            return
        if state.version == version:
            self._states[version] = state
            if state.proxy is None:
                self._whole.pop(version, None)

    def _learn_wish(self, version: str, value: bytes | None) -> None:
        try:
            self._wishes[version] = str(orjson.loads(value or b"")["wish"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            self._wishes.pop(version, None)

    def _learn_positions(self, value: bytes | None) -> None:
        try:
            found = orjson.loads(value or b"")
            self.positions = {
                str(topic): {int(number): int(at) for number, at in by.items()} for topic, by in found.items()
            }
        except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError):
            self.positions = {}

    @property
    def unnamed(self) -> list[str]:
        """The keys of parts that no state names: leftovers of trainers that ended before they named them."""
        named = {
            proxy.key(state.version, part).decode()
            for state in self._states.values()
            for proxy in (state.proxy, state.candidate)
            if proxy is not None
            for part in range(proxy.parts)
        }
        return [key for key in self._parts if key not in named]

    def _forget_unnamed(self) -> None:
        others = self.unnamed
        left = sum(len(self._parts[key]) for key in others)
        for key in others:
            if left <= _UNNAMED_BYTES:
                return
            left -= len(self._parts.pop(key))
