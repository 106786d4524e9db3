"""envoy.extensions.matching.common_inputs.network.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import ClassVar

from mcp_extproc.envoy.message import Message


class DynamicMetadataInput(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.matching.common_inputs.network.v3.DynamicMetadataInput"
    filter: str = ''
    path: list[DynamicMetadataInputPathSegment] = []


class DynamicMetadataInputPathSegment(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.matching.common_inputs.network.v3.DynamicMetadataInput.PathSegment"
    key: str | None = None
