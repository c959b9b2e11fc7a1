"""LeaveGroup by instance id: aiokafka 0.14 knows only versions 0 and 1, by member id.

The member id is known to the consumer alone, and is gone when it has stopped. Version 3 (KIP-345)
takes the instance id. Field lists: https://kafka.apache.org/protocol#The_Messages_LeaveGroup
"""

from __future__ import annotations

from typing import Any

from aiokafka.errors import NoError, UnknownMemberIdError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int16, Int32, Schema, String


class LeaveGroupResponse_v3(Response):  # type: ignore[misc]  # noqa: N801  # aiokafka is untyped
    API_KEY = 13
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        (
            "members",
            Array(
                ("member_id", String("utf-8")),
                ("group_instance_id", String("utf-8")),
                ("error_code", Int16),
            ),
        ),
    )


class LeaveGroupRequest_v3(RequestStruct):  # type: ignore[misc]  # noqa: N801
    API_KEY = 13
    API_VERSION = 3
    RESPONSE_TYPE = LeaveGroupResponse_v3
    SCHEMA = Schema(
        ("group", String("utf-8")),
        (
            "members",
            Array(("member_id", String("utf-8")), ("group_instance_id", String("utf-8"))),
        ),
    )


class LeaveGroup(Request[LeaveGroupRequest_v3]):  # type: ignore[misc]
    """Take the static member of this instance id out of the group, whatever its member id is."""

    API_KEY = 13

    def __init__(self, group: str, instance_id: str) -> None:
        self._group = group
        self._instance_id = instance_id

    def build(self, request_struct_class: type[LeaveGroupRequest_v3]) -> LeaveGroupRequest_v3:
        return request_struct_class(self._group, [("", self._instance_id)])


def refuse_errors(response: Any) -> None:
    """Raises what the broker refused; a member that is not there has left already."""
    codes = [response.error_code, *(code for _, _, code in response.members)]
    for error in map(for_code, codes):
        if error not in (NoError, UnknownMemberIdError):
            raise error
