"""Takes rights away, one at a time, and looks whether `check` names each."""

from __future__ import annotations

import re
from collections.abc import Iterable

from connectors.kafka.admin_client import AdminClient
from connectors.kafka.connection import connection
from connectors.kafka.rights.declared import ALTER_CONFIGS, DESCRIBE_CONFIGS, INIT, Right, needed
from streams.core.errors import AccessError
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.operations.kafka_rights import check_rights
from tests.security.access_lists import AccessLists
from tests.waiting import eventually


class MissingRights:
    """The user of ``settings``, and what is said of its rights."""

    def __init__(self, settings: Settings, lists: AccessLists) -> None:
        self.wanted = needed(Topics(settings.topic_prefix))
        self._settings = settings
        self._lists = lists
        self._client = AdminClient(connection(settings), kept=True)
        self._told = ""

    async def close(self) -> None:
        await self._client.close()

    async def said(self) -> str:
        """As `labelstream check` prints it."""
        try:
            return await check_rights(self._settings, self._client)
        except AccessError as error:
            return f"{error}\n{error.fix}"

    async def names(self, right: Right) -> bool:
        place = rf"{right.operation}\b[^;]* on {right.resource}s? [^;]*{right.name}(?![.\w-])"
        # Kept, for the next answer may be of a broker that does not know of the change yet.
        self._told = await self.said()
        return re.search(place, self._told) is not None

    async def complete(self) -> bool:
        return "lack" not in await self.said()

    async def allow_all(self) -> None:
        self._lists.allow(str(self._settings.kafka_sasl_username), self.wanted)
        await eventually(self.complete, "all rights are known")

    async def take_each(self, rights: Iterable[Right]) -> None:
        """Take away one of ``rights`` after the other, and give it back."""
        user = str(self._settings.kafka_sasl_username)
        for right in rights:
            # One that contains it stands for it.
            containing = right._replace(operation=ALTER_CONFIGS)
            taken = {right, *([containing] if right.operation == DESCRIBE_CONFIGS else [])}
            self._lists.refuse(user, taken)
            await eventually(lambda right=right: self.names(right), f"{right} is named")  # type: ignore[misc]
            text, who = self._told, self.wanted[right]
            if who == (INIT,):
                assert "only labelstream init would lack" in text
            else:
                assert f"kafka-acls --add --allow-principal User:{user} --operation {right.operation}" in text
                assert all(one in text for one in who if one != INIT)
            self._lists.allow(user, taken)
            await eventually(self.complete, f"{right} is there again")
