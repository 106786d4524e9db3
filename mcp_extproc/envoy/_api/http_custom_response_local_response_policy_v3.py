"""envoy.extensions.http.custom_response.local_response_policy.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_core_v3


class LocalResponsePolicy(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.http.custom_response.local_response_policy.v3.LocalResponsePolicy"
    body: config_core_v3.DataSource | None = None
    body_format: config_core_v3.SubstitutionFormatString | None = None
    status_code: int | None = None
    response_headers_to_add: list[config_core_v3.HeaderValueOption] = []
