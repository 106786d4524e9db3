"""What of a call only its server may see: put into the request behind policies that judge it after the worker has decided.

The worker writes it to metadata, with one message for the whole call (docs/design.md). So policies see path, session and
credentials of the client, and the server sees its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mcp_extproc.config import Server
from mcp_extproc.contract import EARLY_FACT, NAMESPACE, ONWARD_NAMESPACE, ONWARD_PATH
from mcp_extproc.envoy._api.config_common_mutation_rules_v3 import HeaderMutation as OneMutation
from mcp_extproc.envoy._api.config_rbac_v3 import Permission, Policy, Principal, Rbac, RbacAction, SourcedMetadata
from mcp_extproc.envoy._api.config_route_v3 import HeaderMatcher, Route
from mcp_extproc.envoy._api.filters_http_buffer_v3 import BufferPerRoute
from mcp_extproc.envoy._api.filters_http_ext_proc_v3 import ExtProcPerRoute
from mcp_extproc.envoy._api.filters_http_header_mutation_v3 import HeaderMutation, HeaderMutationPerRoute, Mutations
from mcp_extproc.envoy._api.filters_http_rbac_v3 import Rbac as RbacFilter
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy._api.type_matcher_v3 import (
    MetadataMatcher,
    MetadataMatcherPathSegment,
    StringMatcher,
    ValueMatcher,
)
from mcp_extproc.envoy.render import judging, upstream_headers
from mcp_extproc.envoy.render.arrangements import EXT_PROC
from mcp_extproc.envoy.render.typed import any_of, header
from mcp_extproc.gateway import headers
from mcp_extproc.mcp import transport

FILTER = "mcp_onward"
"""In front of the second visit, so that what is decided there does not meet it: its route is another one until then."""

_OF_EACH_CALL: Final = (
    "mcp-method",
    "mcp-name",
    "mcp-session-id",
    "mcp-protocol-version",
    "accept-encoding",
    headers.CAPABILITIES,
)
"""Headers that the worker may write for any server."""


def filters(policies: Sequence[Mapping[str, Any]]) -> list[HttpFilter]:
    """Behind policies. They do nothing to a request that was not decided before.

    Args:
        policies: the operator's.
    """
    refusing = [_without_query()] if judging.may_add_queries(policies) else []
    return [*refusing, HttpFilter(name=FILTER, typed_config=any_of(HeaderMutation()))]


def _without_query() -> HttpFilter:
    """Refuses a query, which Envoy would add to the server's path. Who has one from the client is not decided at the first
    visit, so it is a policy's: an external authorization may add one."""
    query = HeaderMatcher(name=":path", string_match=StringMatcher(contains="?"))
    decided = MetadataMatcher(
        filter=NAMESPACE, path=[MetadataMatcherPathSegment(key=EARLY_FACT)], value=ValueMatcher(bool_match=True)
    )
    policy = Policy(
        permissions=[Permission(header=query)],
        principals=[Principal(sourced_metadata=SourcedMetadata(metadata_matcher=decided))],
    )
    rules = Rbac(action=RbacAction.DENY, policies={"query": policy})
    return HttpFilter(name="mcp_no_query", typed_config=any_of(RbacFilter(rules=rules)))


def act_on(route: Route, server: Server, length: str) -> None:
    """Have the route of a server's calls put in what the worker has written in one visit, and pass over the second one.

    Args:
        route: of calls that are decided at the first visit.
        server: its own.
        length: name of the second visit's filter that restores content-length.
    """
    names = (*_OF_EACH_CALL, *server.written_headers)
    mutations = [
        upstream_headers.without(upstream_headers.elsewhere(headers.FAMILIES)),
        *(OneMutation(remove=name) for name in headers.STRIPPED),
        OneMutation(append=header("accept", transport.JSON_OR_SSE)),
        *(OneMutation(append=header(name, _written(name))) for name in dict.fromkeys(names)),
    ]
    assert route.route is not None
    route.route.path_rewrite = _written(ONWARD_PATH)
    route.typed_per_filter_config |= {
        FILTER: any_of(HeaderMutationPerRoute(mutations=Mutations(request_mutations=mutations))),
        EXT_PROC: any_of(ExtProcPerRoute(disabled=True)),
        length: any_of(BufferPerRoute(disabled=True)),
    }


def _written(key: str) -> str:
    return f"%DYNAMIC_METADATA({ONWARD_NAMESPACE}:{key})%"
