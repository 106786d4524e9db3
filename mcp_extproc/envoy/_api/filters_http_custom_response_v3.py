"""envoy.extensions.filters.http.custom_response.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import xds_type_matcher_v3


class CustomResponse(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.custom_response.v3.CustomResponse"
    custom_response_matcher: xds_type_matcher_v3.Matcher | None = None
