"""envoy.extensions.filters.http.lua.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_core_v3


class Lua(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.lua.v3.Lua"
    inline_code: str = ''
    source_codes: dict[str, config_core_v3.DataSource] = {}
    default_source_code: config_core_v3.DataSource | None = None
    stat_prefix: str = ''
    clear_route_cache: bool | None = None
