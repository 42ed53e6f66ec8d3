"""Kafka's access lists, changed as an administrator does it: by a listener that lets everybody do all."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from connectors.kafka.rights.declared import Right

_RESOURCES = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP}
_OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
    "AlterConfigs": AclOperation.ALTER_CONFIGS,
    "All": AclOperation.ALL,
}


class AccessLists:
    """``address``: of a listener whose clients may do everything."""

    def __init__(self, address: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": address, "log_level": 0})

    def allow(self, user: str, rights: Iterable[Right]) -> None:
        """Add them. Brokers know of it a moment later."""
        self._each(self._admin.create_acls([_binding(AclBinding, user, right) for right in rights]))

    def refuse(self, user: str, rights: Iterable[Right]) -> None:
        """Take them away again."""
        self._each(self._admin.delete_acls([_binding(AclBindingFilter, user, right) for right in rights]))

    @staticmethod
    def _each(asked: dict[object, object]) -> None:
        for done in asked.values():
            done.result(60)  # type: ignore[attr-defined]


def _binding(kind: type[AclBinding], user: str, right: Right) -> AclBinding:
    return kind(
        _RESOURCES[right.resource],
        right.name,
        ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        _OPERATIONS[right.operation],
        AclPermissionType.ALLOW,
    )
