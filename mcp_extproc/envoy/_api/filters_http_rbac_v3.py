"""envoy.extensions.filters.http.rbac.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_rbac_v3, xds_type_matcher_v3


class Rbac(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.rbac.v3.RBAC"
    rules: config_rbac_v3.Rbac | None = None
    rules_stat_prefix: str = ''
    matcher: xds_type_matcher_v3.Matcher | None = None
    shadow_rules: config_rbac_v3.Rbac | None = None
    shadow_matcher: xds_type_matcher_v3.Matcher | None = None
    shadow_rules_stat_prefix: str = ''
    track_per_rule_stats: bool = False
