"""envoy.extensions.filters.http.set_metadata.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import ClassVar

from mcp_extproc.envoy.message import Any, Message, Struct


class Config(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.set_metadata.v3.Config"
    metadata_namespace: str = ''
    value: Struct | None = None
    metadata: list[Metadata] = []


class Metadata(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.set_metadata.v3.Metadata"
    metadata_namespace: str = ''
    allow_overwrite: bool = False
    value: Struct | None = None
    typed_value: Any | None = None
