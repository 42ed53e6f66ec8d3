"""Kafka's requests for other replicas and for the preferred leaders of partitions (api keys 45 and 43).

No client from pip has the first; confluent-kafka has the second, but its call fails in each of its forms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Array,
    CompactArray,
    CompactString,
    Int8,
    Int16,
    Int32,
    Schema,
    String,
    TaggedFields,
)

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


class ElectLeadersResponse_v1(Response):
    API_KEY = 43
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        (
            "results",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(("partition", Int32), ("error_code", Int16), ("error_message", String("utf-8"))),
                ),
            ),
        ),
    )


class ElectLeadersRequest_v1(RequestStruct):
    API_KEY = 43
    API_VERSION = 1
    RESPONSE_TYPE = ElectLeadersResponse_v1
    SCHEMA = Schema(
        ("election_type", Int8),
        ("topics", Array(("topic", String("utf-8")), ("partitions", Array(Int32)))),
        ("timeout_ms", Int32),
    )


class ElectPreferredLeaders(Request[ElectLeadersRequest_v1]):
    """The first replica of each of ``partitions``, by topic, shall lead it."""

    API_KEY = 43

    def __init__(self, partitions: Mapping[str, Sequence[int]]) -> None:
        self._partitions = partitions

    def build(self, request_struct_class: type[ElectLeadersRequest_v1]) -> ElectLeadersRequest_v1:
        topics = [(topic, list(numbers)) for topic, numbers in self._partitions.items()]
        return request_struct_class(0, topics, _TIMEOUT_MS)
