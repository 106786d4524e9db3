"""envoy.extensions.filters.http.buffer.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import ClassVar

from mcp_extproc.envoy.message import Message


class Buffer(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.buffer.v3.Buffer"
    max_request_bytes: int | None = None


class BufferPerRoute(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.buffer.v3.BufferPerRoute"
    disabled: bool | None = None
    buffer: Buffer | None = None
