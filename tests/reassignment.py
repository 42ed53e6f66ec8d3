"""Kafka's request for other replicas of partitions (api key 45, version 0), which no client from pip has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

_TIMEOUT_MS = 60_000


class AlterPartitionReassignmentsResponse_v0(Response):
    API_KEY = 45
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("error_message", CompactString("utf-8")),
        (
            "responses",
            CompactArray(
                ("name", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("error_message", CompactString("utf-8")),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class AlterPartitionReassignmentsRequest_v0(RequestStruct):
    API_KEY = 45
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = AlterPartitionReassignmentsResponse_v0
    SCHEMA = Schema(
        ("timeout_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32), ("replicas", CompactArray(Int32)), ("tags", TaggedFields)
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class AlterPartitionReassignments(Request[AlterPartitionReassignmentsRequest_v0]):
    """``wanted``: of each topic its partitions, and the replicas that each of them shall have."""

    API_KEY = 45

    def __init__(self, wanted: Mapping[str, tuple[Sequence[int], Sequence[int]]]) -> None:
        self._wanted = wanted

    def build(
        self, request_struct_class: type[AlterPartitionReassignmentsRequest_v0]
    ) -> AlterPartitionReassignmentsRequest_v0:
        topics = [
            (topic, [(number, list(replicas), {}) for number in numbers], {})
            for topic, (numbers, replicas) in self._wanted.items()
        ]
        return request_struct_class(_TIMEOUT_MS, topics, {})
