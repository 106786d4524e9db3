"""API keys: Envoy's api_key_auth. The keys are in the routes, so that new ones drain no listener.

What is rendered has none. The supervisor adds them to the routes that Envoy watches (:mod:`mcp_extproc.envoy.watched_files`);
without one, all keys are refused until somebody does.
"""

from __future__ import annotations

from collections.abc import Sequence

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.api_keys import Keys, KeysByFile
from mcp_extproc.config.authentication import ApiKeys
from mcp_extproc.contract import KEY_HEADER, KEY_NAME, PRINCIPAL_NAMESPACE
from mcp_extproc.envoy._api.config_common_mutation_rules_v3 import HeaderMutation as OneMutation
from mcp_extproc.envoy._api.config_core_v3 import (
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    KeyValueMutation,
)
from mcp_extproc.envoy._api.filters_http_api_key_auth_v3 import ApiKeyAuth, ApiKeyAuthPerRoute, Forwarding, KeySource
from mcp_extproc.envoy._api.filters_http_header_mutation_v3 import HeaderMutation, Mutations
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy.layout import API_KEY_FILTER
from mcp_extproc.envoy.message import Any, Message
from mcp_extproc.envoy.render.authentication import brought, proven
from mcp_extproc.envoy.render.authentication.sections import Section, sections
from mcp_extproc.envoy.render.matching import Predicate, one_of
from mcp_extproc.envoy.render.typed import any_of

QUERY_FILTER = "mcp_api_key_query"

NAME_HEADER = "x-mcp-api-key-name"
"""What Envoy's filter proved, until it is in metadata."""

_FORWARDING = Forwarding(header=NAME_HEADER)
"""The key stays: the messages of a batch are authenticated one by one. No server gets it."""

PROVEN = proven.Method(NAME_HEADER, PRINCIPAL_NAMESPACE, KEY_NAME)


def filters(section: Section, keys: ApiKeys) -> list[HttpFilter]:
    """The filter, and one in front of it that takes a key out of the query."""
    query_filter, key_filter = section.named(QUERY_FILTER), section.named(API_KEY_FILTER)
    names = [source.query for source in keys.sources if source.query is not None]
    moving = [HttpFilter(name=query_filter, typed_config=any_of(_moved(names, query_filter)))] if names else []
    checking: Message = ApiKeyAuth(key_sources=_sources(keys), forwarding=_FORWARDING)
    if not section.authentication.is_single:
        checking = brought.only_with(_credential(keys), key_filter, checking)
    return [*moving, HttpFilter(name=key_filter, typed_config=any_of(checking))]


def on_virtual_host(among: Sequence[Section]) -> dict[str, Any]:
    """The places of the keys, which replace all that the filters say."""
    return {
        section.named(API_KEY_FILTER): any_of(ApiKeyAuthPerRoute(key_sources=_sources(keys), forwarding=_FORWARDING))
        for section in among
        if (keys := section.authentication.api_keys) is not None
    }


def keys_by_filter(config: GatewayConfig, keys: KeysByFile) -> dict[str, Keys]:
    """The keys that belong in the places of :func:`on_virtual_host`, by the filter's name."""
    return {
        section.named(API_KEY_FILTER): method.inline_keys if method.file is None else keys.get(method.file, {})
        for section in sections(config)
        if (method := section.authentication.api_keys) is not None
    }


def _sources(keys: ApiKeys) -> list[KeySource]:
    found: list[KeySource] = []
    for source in keys.sources:
        header = source.header or (KEY_HEADER if source.query is not None else "")
        item = KeySource(header=header) if header else KeySource(cookie=source.cookie or "")
        if item not in found:
            found.append(item)
    return found


def _credential(keys: ApiKeys) -> Predicate:
    each = [brought.header(item.header) if item.header else brought.cookie(item.cookie) for item in _sources(keys)]
    return one_of(*each)


def _moved(names: list[str], name: str) -> Message:
    """Keys in the query, moved to a header: neither logs nor spans have them then."""
    to_header = [
        OneMutation(
            append=HeaderValueOption(
                header=HeaderValue(key=KEY_HEADER, value=f"%QUERY_PARAM({name})%"),
                append_action=HeaderValueOptionHeaderAppendAction.ADD_IF_ABSENT,
                keep_empty_value=len(names) == 1,
            )
        )
        for name in names
    ]
    removed = [KeyValueMutation(remove=name) for name in names]
    moving = HeaderMutation(mutations=Mutations(request_mutations=to_header, query_parameter_mutations=removed))
    each = [brought.query(name) for name in names]
    return brought.only_with(one_of(*each), name, moving)
