"""The end of a partition's log at its leader, and the offset up to which consumers may read it.

Field by field as in the Kafka protocol guide. ListOffsets (api key 2) in version 5, in which a leader reports
that it cannot answer yet; aiokafka uses version 3. OffsetForLeaderEpoch (api key 23) in version 3, the first
one for consumers. Both contain the leader epoch that the client knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int8, Int16, Int32, Int64, Schema, String

EARLIEST, LATEST = -2, -1
_CONSUMER = -1

# For each topic its partitions, with the leader epoch of each.
Epochs = Mapping[str, Sequence[tuple[int, int]]]


class ListOffsetsResponse_v5(Response):
    API_KEY = 2
    API_VERSION = 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("timestamp", Int64),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                    ),
                ),
            ),
        ),
    )


class ListOffsetsRequest_v5(RequestStruct):
    API_KEY = 2
    API_VERSION = 5
    RESPONSE_TYPE = ListOffsetsResponse_v5
    SCHEMA = Schema(
        ("replica_id", Int32),
        ("isolation_level", Int8),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(
                        ("partition", Int32),
                        ("current_leader_epoch", Int32),
                        ("timestamp", Int64),
                    ),
                ),
            ),
        ),
    )


class ListOffsets(Request[ListOffsetsRequest_v5]):
    """The first existing offset (EARLIEST), or the high watermark (LATEST)."""

    API_KEY = 2

    def __init__(self, epochs: Epochs, timestamp: int) -> None:
        self._epochs = epochs
        self._timestamp = timestamp

    def build(self, request_struct_class: type[ListOffsetsRequest_v5]) -> ListOffsetsRequest_v5:
        topics = [
            (topic, [(number, epoch, self._timestamp) for number, epoch in found])
            for topic, found in self._epochs.items()
        ]
        return request_struct_class(_CONSUMER, 0, topics)


class OffsetForLeaderEpochResponse_v3(Response):
    API_KEY = 23
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader_epoch", Int32),
                        ("end_offset", Int64),
                    ),
                ),
            ),
        ),
    )


class OffsetForLeaderEpochRequest_v3(RequestStruct):
    API_KEY = 23
    API_VERSION = 3
    RESPONSE_TYPE = OffsetForLeaderEpochResponse_v3
    SCHEMA = Schema(
        ("replica_id", Int32),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(
                        ("partition", Int32),
                        ("current_leader_epoch", Int32),
                        ("leader_epoch", Int32),
                    ),
                ),
            ),
        ),
    )


class OffsetForLeaderEpoch(Request[OffsetForLeaderEpochRequest_v3]):
    """The end of the leader's own epoch: the end of its log, including messages that are not
    replicated yet.
    """

    API_KEY = 23

    def __init__(self, epochs: Epochs) -> None:
        self._epochs = epochs

    def build(
        self, request_struct_class: type[OffsetForLeaderEpochRequest_v3]
    ) -> OffsetForLeaderEpochRequest_v3:
        topics = [
            (topic, [(number, epoch, epoch) for number, epoch in found])
            for topic, found in self._epochs.items()
        ]
        return request_struct_class(_CONSUMER, topics)
