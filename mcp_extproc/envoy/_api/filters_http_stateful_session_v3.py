"""envoy.extensions.filters.http.stateful_session.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_core_v3


class StatefulSession(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.stateful_session.v3.StatefulSession"
    session_state: config_core_v3.TypedExtensionConfig | None = None
    strict: bool = False
    stat_prefix: str = ''
    status_on_strict_destination_not_found: int = 0


class StatefulSessionPerRoute(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute"
    disabled: bool | None = None
    stateful_session: StatefulSession | None = None
