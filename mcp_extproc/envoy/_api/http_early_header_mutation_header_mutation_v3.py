"""envoy.extensions.http.early_header_mutation.header_mutation.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_common_mutation_rules_v3


class HeaderMutation(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    mutations: list[config_common_mutation_rules_v3.HeaderMutation] = []
