"""Whether the user of Kafka may do what roles and commands need, and what grants it the rest."""

from __future__ import annotations

from connectors.kafka.admin_client import AdminClient
from connectors.kafka.connection import connection
from connectors.kafka.rights.declared import INIT, acl_commands, describe_rights, needed
from connectors.kafka.rights.granted import RightsReader
from streams.core.errors import AccessError
from streams.core.settings import Settings
from streams.core.topics import Topics


async def check_rights(settings: Settings, client: AdminClient | None = None, *, role: str = "") -> str:
    """What to say of the rights; that `init` lacks one is no failure, as another user may run it. ``role``:
    only what that one needs.

    Raises:
        AccessError: naming each right that is missing, who needs it, and the commands that grant it.
        UnavailableError.
    """
    wanted = needed(Topics(settings.topic_prefix), role)
    topics, groups = (
        list(dict.fromkeys(right.name for right in wanted if right.resource == kind))
        for kind in ("topic", "group")
    )
    found = await RightsReader(connection(settings), client).read(topics, groups)
    told = {where: allowed for where, allowed in found.items() if allowed is not None}
    missing = [
        right
        for right in wanted
        if (right.resource, right.name) in told and right.operation not in told[right.resource, right.name]
    ]
    user = _principal(settings)
    if work := [right for right in missing if wanted[right] != (INIT,)]:
        who = sorted({name for right in work for name in wanted[right]} - {INIT})
        raise AccessError(
            f"{user} lacks {describe_rights(missing)}; needed by {', '.join(who)}",
            setting="KAFKA_SASL_USERNAME",
            fix="; ".join(acl_commands(user, missing)),
        )
    who_needs = f"the {role} needs" if role else "roles and commands need"
    notes = [f"{len(topics)} topics and {len(groups)} groups: all that {who_needs}"]
    if len(told) < len(found):
        hidden = ", ".join(f"{kind} {name}" for kind, name in found if (kind, name) not in told)
        notes.append(f"not known, because the brokers do not tell: {hidden}")
    if missing:
        notes.append(f"only labelstream init would lack {describe_rights(missing)}")
    return "; ".join(notes)


def _principal(settings: Settings) -> str:
    """The user, as access lists name it, as far as the settings say."""
    if settings.kafka_security_protocol.startswith("SASL"):
        return f"User:{settings.kafka_sasl_username}"
    return "User:CN=..." if settings.kafka_ssl_certfile else "User:ANONYMOUS"
