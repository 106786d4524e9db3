"""envoy.type.metadata.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import ClassVar

from mcp_extproc.envoy.message import Message


class MetadataKey(Message):
    FULL_NAME: ClassVar[str] = "envoy.type.metadata.v3.MetadataKey"
    key: str = ''
    path: list[MetadataKeyPathSegment] = []


class MetadataKeyPathSegment(Message):
    FULL_NAME: ClassVar[str] = "envoy.type.metadata.v3.MetadataKey.PathSegment"
    key: str | None = None
