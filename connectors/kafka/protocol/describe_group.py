"""The request for one consumer group's members."""

from __future__ import annotations

from aiokafka.protocol.admin import DescribeGroupsRequest_v1
from aiokafka.protocol.api import Request


class DescribeGroup(Request[DescribeGroupsRequest_v1]):
    """In version 1: aiokafka parses the answer to its version 3 with the schema of version 2.

    The answer's `groups[0]` is (error code, group, state, protocol type, protocol, members), a member is
    (member id, client id, host, metadata, assignment).
    """

    API_KEY = 15

    def __init__(self, group: str) -> None:
        self.group = group

    def build(self, request_struct_class: type[DescribeGroupsRequest_v1]) -> DescribeGroupsRequest_v1:
        return request_struct_class([self.group])
