"""Sticky sessions: each request goes to the replica that opened its session.

Envoy's ``stateful_session`` filter, with the extension ``envelope``, adds the replica's address to the server's
``Mcp-Session-Id``, and removes it on the way to the server. For the gateway the whole value is the server's session id.

This applies to all four listeners: the response to ``initialize`` arrives on ``mcp_upstreams``, calls leave from the
clients' listener. A request to the repair listener has lost the address, so the whole id is kept in a separate header.
"""

from __future__ import annotations

from mcp_extproc.config import GatewayConfig, Server
from mcp_extproc.envoy._api.config_common_mutation_rules_v3 import HeaderMutation as OneMutation
from mcp_extproc.envoy._api.config_core_v3 import HeaderValue, HeaderValueOption, HeaderValueOptionHeaderAppendAction
from mcp_extproc.envoy._api.filters_http_header_mutation_v3 import (
    HeaderMutation,
    HeaderMutationPerRoute,
    Mutations,
)
from mcp_extproc.envoy._api.filters_http_stateful_session_v3 import StatefulSession, StatefulSessionPerRoute
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy._api.http_stateful_session_envelope_v3 import (
    EnvelopeSessionState,
    EnvelopeSessionStateHeader,
)
from mcp_extproc.envoy.layout import STICKY_SESSION
from mcp_extproc.envoy.message import Any, Message
from mcp_extproc.envoy.render.typed import any_of, extension

_STATEFUL_SESSION = "envoy.filters.http.stateful_session"
_WHOLE_ID = "mcp_sticky_session"
_SESSION_ID = "mcp-session-id"

Filters = list[HttpFilter]
PerRoute = dict[str, Any]


def client_filters(config: GatewayConfig) -> Filters:
    """After ext_proc on the clients' listener."""
    return [_nothing(_WHOLE_ID, HeaderMutation()), *sub_request_filters(config)] if _anywhere(config) else []


def sub_request_filters(config: GatewayConfig) -> Filters:
    """On the listener for sub-requests; and after ext_proc on the repair listener."""
    return [_nothing(_STATEFUL_SESSION, StatefulSession())] if _anywhere(config) else []


def repair_filters(config: GatewayConfig) -> Filters:
    """Before ext_proc on the repair listener."""
    return [_nothing(_WHOLE_ID, HeaderMutation())] if _anywhere(config) else []


def on_call_route(server: Server) -> PerRoute:
    """Keep the whole id, and select the replica by its address."""
    keep = _set(STICKY_SESSION, _SESSION_ID, HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD)
    return {**on_sub_request_route(server), _WHOLE_ID: _mutate(keep)} if server.sticky_sessions else {}


def on_sub_request_route(server: Server) -> PerRoute:
    """Select the replica by the address in the id."""
    if not server.sticky_sessions:
        return {}
    envelope = EnvelopeSessionState(header=EnvelopeSessionStateHeader(name=_SESSION_ID))
    # Not strict: if the replica is gone, its session is lost, and another one reports that.
    state = StatefulSession(session_state=extension("envoy.http.stateful_session.envelope", envelope))
    return {_STATEFUL_SESSION: any_of(StatefulSessionPerRoute(stateful_session=state))}


def on_repair_route(server: Server) -> PerRoute:
    """Restore the whole id."""
    whole = _set(_SESSION_ID, STICKY_SESSION, HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS)
    restore = _mutate(whole, OneMutation(remove=STICKY_SESSION))
    return {**on_sub_request_route(server), _WHOLE_ID: restore} if server.sticky_sessions else {}


def _anywhere(config: GatewayConfig) -> bool:
    return any(server.sticky_sessions for server in config.servers.values())


def _nothing(name: str, message: Message) -> HttpFilter:
    """A filter that acts on some routes only. (A ``disabled`` one would stay disabled: when Envoy creates the filter
    chain, the server's route is not selected yet.)"""
    return HttpFilter(name=name, typed_config=any_of(message))


def _set(name: str, source: str, action: HeaderValueOptionHeaderAppendAction) -> OneMutation:
    value = HeaderValueOption(header=HeaderValue(key=name, value=f"%REQ({source})%"), append_action=action)
    return OneMutation(append=value)


def _mutate(*mutations: OneMutation) -> Any:
    return any_of(HeaderMutationPerRoute(mutations=Mutations(request_mutations=list(mutations))))
