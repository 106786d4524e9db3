"""envoy.extensions.retry.host.omit_host_metadata.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_core_v3


class OmitHostMetadataConfig(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig"
    metadata_match: config_core_v3.Metadata | None = None
