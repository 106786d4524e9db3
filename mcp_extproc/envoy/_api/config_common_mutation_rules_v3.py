"""envoy.config.common.mutation_rules.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_core_v3, type_matcher_v3


class HeaderMutation(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.common.mutation_rules.v3.HeaderMutation"
    remove: str | None = None
    append: config_core_v3.HeaderValueOption | None = None
    remove_on_match: HeaderMutationRemoveOnMatch | None = None


class HeaderMutationRemoveOnMatch(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.common.mutation_rules.v3.HeaderMutation.RemoveOnMatch"
    key_matcher: type_matcher_v3.StringMatcher | None = None


class HeaderMutationRules(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.common.mutation_rules.v3.HeaderMutationRules"
    allow_all_routing: bool | None = None
    allow_envoy: bool | None = None
    disallow_system: bool | None = None
    disallow_all: bool | None = None
    allow_expression: type_matcher_v3.RegexMatcher | None = None
    disallow_expression: type_matcher_v3.RegexMatcher | None = None
    disallow_is_error: bool | None = None
