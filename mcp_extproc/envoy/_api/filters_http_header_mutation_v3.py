"""envoy.extensions.filters.http.header_mutation.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_common_mutation_rules_v3, config_core_v3


class HeaderMutation(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
    mutations: Mutations | None = None
    most_specific_header_mutations_wins: bool = False


class HeaderMutationPerRoute(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute"
    mutations: Mutations | None = None


class Mutations(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.header_mutation.v3.Mutations"
    request_mutations: list[config_common_mutation_rules_v3.HeaderMutation] = []
    query_parameter_mutations: list[config_core_v3.KeyValueMutation] = []
    response_mutations: list[config_common_mutation_rules_v3.HeaderMutation] = []
    response_trailers_mutations: list[config_common_mutation_rules_v3.HeaderMutation] = []
    request_trailers_mutations: list[config_common_mutation_rules_v3.HeaderMutation] = []
