"""envoy.extensions.resource_monitors.fixed_heap.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import ClassVar

from mcp_extproc.envoy.message import Message


class FixedHeapConfig(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig"
    AS_TEXT: ClassVar[frozenset[str]] = frozenset({'max_heap_size_bytes'})
    max_heap_size_bytes: int = 0
