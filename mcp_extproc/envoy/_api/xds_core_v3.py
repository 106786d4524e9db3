"""xds.core.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import ClassVar

from mcp_extproc.envoy.message import Any, Message


class TypedExtensionConfig(Message):
    FULL_NAME: ClassVar[str] = "xds.core.v3.TypedExtensionConfig"
    name: str = ''
    typed_config: Any | None = None
