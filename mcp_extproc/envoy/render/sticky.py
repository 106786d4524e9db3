"""Sticky sessions: each request goes to the replica that opened its session.

Envoy's ``stateful_session`` filter, with the extension ``envelope``, puts the replica's address into the ``Mcp-Session-Id``
that the server gives, and takes it out again on the way there. To the gateway the whole is the server's session id.

It does so on all four listeners: the answer to ``initialize`` comes in on ``mcp_upstreams``, calls leave from where clients
come in. On its way to the repair listener a request has lost the address, so the whole id is kept in a header of its own.
"""

from __future__ import annotations

import betterproto2
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as OneMutation
from envoy_data_plane.envoy.config.core.v3 import HeaderValue, HeaderValueOption, HeaderValueOptionHeaderAppendAction
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import (
    HeaderMutation,
    HeaderMutationPerRoute,
    Mutations,
)
from envoy_data_plane.envoy.extensions.filters.http.stateful_session.v3 import StatefulSession, StatefulSessionPerRoute
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.http.stateful_session.envelope.v3 import (
    EnvelopeSessionState,
    EnvelopeSessionStateHeader,
)
from envoy_data_plane.google.protobuf import Any

from mcp_extproc.config import GatewayConfig, Server
from mcp_extproc.envoy.layout import STICKY_SESSION
from mcp_extproc.envoy.render.typed import any_of, extension

_STATEFUL_SESSION = "envoy.filters.http.stateful_session"
_WHOLE_ID = "mcp_sticky_session"
_SESSION_ID = "mcp-session-id"

Filters = list[HttpFilter]
PerRoute = dict[str, Any]


def client_filters(config: GatewayConfig) -> Filters:
    """After ext_proc, where clients come in."""
    return [_nothing(_WHOLE_ID, HeaderMutation()), *sub_request_filters(config)] if _anywhere(config) else []


def sub_request_filters(config: GatewayConfig) -> Filters:
    """On the listener for sub-requests; and after ext_proc on the repair listener."""
    return [_nothing(_STATEFUL_SESSION, StatefulSession())] if _anywhere(config) else []


def repair_filters(config: GatewayConfig) -> Filters:
    """Before ext_proc on the repair listener."""
    return [_nothing(_WHOLE_ID, HeaderMutation())] if _anywhere(config) else []


def on_call_route(server: Server) -> PerRoute:
    """Keep the whole id, and go by the address in it."""
    keep = _set(STICKY_SESSION, _SESSION_ID, HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD)
    return {**on_sub_request_route(server), _WHOLE_ID: _mutate(keep)} if server.sticky_sessions else {}


def on_sub_request_route(server: Server) -> PerRoute:
    """Go by the address in the id."""
    if not server.sticky_sessions:
        return {}
    envelope = EnvelopeSessionState(header=EnvelopeSessionStateHeader(name=_SESSION_ID))
    # Not strict: a replica that is gone has lost the session, and another one says so.
    state = StatefulSession(session_state=extension("envoy.http.stateful_session.envelope", envelope))
    return {_STATEFUL_SESSION: any_of(StatefulSessionPerRoute(stateful_session=state))}


def on_repair_route(server: Server) -> PerRoute:
    """Bring the whole id back."""
    whole = _set(_SESSION_ID, STICKY_SESSION, HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS)
    restore = _mutate(whole, OneMutation(remove=STICKY_SESSION))
    return {**on_sub_request_route(server), _WHOLE_ID: restore} if server.sticky_sessions else {}


def _anywhere(config: GatewayConfig) -> bool:
    return any(server.sticky_sessions for server in config.servers.values())


def _nothing(name: str, message: betterproto2.Message) -> HttpFilter:
    """A filter that does something on some routes only. (One that is ``disabled`` would stay so: when Envoy makes the chain of
    filters the server's route is not chosen yet.)"""
    return HttpFilter(name=name, typed_config=any_of(message))


def _set(name: str, source: str, action: HeaderValueOptionHeaderAppendAction) -> OneMutation:
    value = HeaderValueOption(header=HeaderValue(key=name, value=f"%REQ({source})%"), append_action=action)
    return OneMutation(append=value)


def _mutate(*mutations: OneMutation) -> Any:
    return any_of(HeaderMutationPerRoute(mutations=Mutations(request_mutations=list(mutations))))
