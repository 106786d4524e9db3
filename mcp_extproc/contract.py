"""Names that processes agree on: Envoy's configuration and the workers, ``run`` and its workers."""

from __future__ import annotations

from typing import Final

NAMESPACE: Final = "mcp_proxy"
"""Namespace of the dynamic metadata: the first one of Envoy's own MCP filter, so policies written for it work unchanged."""

ORDINARY_KEY: Final = "ordinary"
"""In :data:`NAMESPACE`: the request goes to a server, and has the facts of most calls when it does
(:attr:`mcp_extproc.gateway.facts.RequestFacts.are_ordinary`). For the access log."""

UNAVAILABLE_KEY: Final = "mcp-extproc/unavailable"
"""Member of ``_meta`` that names the servers missing from a merged answer, and why. Clients may read it."""

REPAIR_ROUTE: Final = "mcp_repair/"
"""Start of the names of the repair listener's routes; the rest is the server's name."""

JUDGE_ROUTE: Final = "mcp_judge/"
"""Start of the route's name before policies have judged the request: the worker classifies it, and does nothing else."""

ACT_ROUTE: Final = "mcp_act/"
"""Start of the route's name once policies have judged it, and until the worker has decided."""

ROUTE_KEY: Final = "x-mcp-route"
"""gRPC metadata of an exchange, where there are several endpoints: the name of the route that Envoy chose. It says at which
endpoint a request came in, as its path does not."""

ENDPOINT_KEY: Final = "x-mcp-endpoint"
"""The same once policies have judged the request, when it has a route of another kind: the endpoint, as the first visit wrote
it into the metadata."""

VIRTUAL_SERVER_HEADER: Final = "x-mcp-virtualserver"
"""A request's own choice of a virtual server, as clients of Kuadrant's MCP gateway make it."""

SERVERS_HEADERS: Final = frozenset({
    "x-mcp-exclude-tools", "x-mcp-features", "x-mcp-insiders", "x-mcp-lockdown", "x-mcp-readonly", "x-mcp-tools",
    "x-mcp-toolsets",
})  # fmt: skip
"""What GitHub's server lets clients choose. No header of the gateway's, although they begin like those."""

SERVER_HEADER: Final = "x-mcp-server"
"""Names the server of a request, for Envoy's rate limits and the private listener's routes. No server gets it."""

OWNER_HEADER: Final = "x-mcp-owner"
"""On a request that passes the policies once more, as its server was not known before: which one that is, sealed. No server
gets it."""

CONSENT_HEADER: Final = "x-mcp-consent"
"""On a call that its user has consented to, and that passes Envoy once more to run: to what, sealed. No server gets it."""

OVER_SSE: Final = "/sse"
"""In :data:`SERVER_HEADER`, and in the name of a cluster, behind the name of a server that speaks HTTP+SSE: the server itself,
and not the bridge in front of it."""

TOKEN_ENDPOINT: Final = "/token"  # noqa: S105 - a word
"""In :data:`SERVER_HEADER` behind the name of a server: the token endpoint where callers' tokens are exchanged for it."""

BRIDGE_HEADER: Final = "x-mcp-bridge"
"""On an error of the bridge's own: its message is no server's. What a server writes itself is no header."""
IS_STARTING: Final = "starting"
"""In :data:`BRIDGE_HEADER`: the server's program does not answer yet."""
HAS_FAILED: Final = "failed"
"""In :data:`BRIDGE_HEADER`: anything else."""

STARTED_AGAIN: Final = "; it is started again in "
"""In the message of such an error, before how long that takes: of use to who may call again, and to nobody else."""

CONNECTION_HEADER: Final = "x-mcp-connection"
"""On requests to a server that speaks HTTP+SSE: those of one connection go to one replica. No server gets it."""

LOST_HEADER: Final = "x-mcp-session-lost"
"""Put on answers by which a server says that it does not know its session. No client gets it."""

ERROR_HEADER: Final = "x-mcp-error"
"""Put on errors that Envoy answers with: why, in the words of ``error_reason``. The access log has it from there."""

TOOL_ERROR: Final = "tool_error"
"""In ``error_reason``: the result has ``isError``, in an answer that was read. As the OpenTelemetry conventions for MCP have
it."""

RESPONSE_METHOD: Final = "__jsonrpc_response"
"""What stands for the method of a client's answer to a server."""

SERVER_ERROR: Final = "server_error"
"""In ``error_reason``: the server answered with a JSON-RPC error, in an answer that was read."""

SERVER_FAILED: Final = "server_failed"
"""In ``error_reason`` and :data:`ERROR_HEADER`: the server gave no answer."""

FAILURE_HEADER: Final = "x-mcp-upstream-failure"
"""Put by the private listener on answers of Envoy's own: what went wrong, such as ``UpstreamConnectionFailure``."""

CREDENTIALS_UNAVAILABLE: Final = "CredentialsUnavailable"
"""In :data:`FAILURE_HEADER`: Envoy has no token for the server, so that the request was not sent."""

REPLICA_MARK: Final = ";UV:"
"""In a server's session id: Envoy put its replica's address before this (``sticky_sessions``)."""

MESSAGE_TIMEOUT: Final = 5.0
"""Seconds that Envoy waits for a worker's answer to a message. Most take microseconds; fan-outs ask for more."""

MAX_MESSAGE_TIMEOUT: Final = 3600.0
"""Most seconds that a worker may ask Envoy to wait for one answer."""

EJECTION: Final = 1.0
"""Seconds for which Envoy may pass over a worker's address after connections to it have failed. A successful health check ends
it earlier."""

SECRET_VARIABLE: Final = "MCP_EXTPROC_SESSION_SECRET"  # noqa: S105 - the variable's name
"""Environment variable that carries a random session secret from ``run`` to its workers, restarted ones too."""

TRANSPORT_VARIABLE: Final = "MCP_EXTPROC_TRANSPORT"
"""Environment variable with the workers' transport of ext_proc, where no option says it."""

PASS_THROUGH_KEY: Final = "x-mcp-pass-through"  # noqa: S105 - a name
"""gRPC metadata of an exchange that is only read: Envoy's filter sends it, out of reach of clients."""

REFUSED_KEY: Final = "x-mcp-refused"
"""gRPC metadata of an exchange about a server's HTTP error."""

DOUBTFUL_KEY: Final = "x-mcp-doubtful"
"""gRPC metadata of an exchange about an answer that may say that a session is lost."""

REQUEST_ID_HEADER: Final = "x-mcp-request-id"
"""On requests that are only read: the JSON-RPC id, as JSON text."""

PRINCIPAL_NAMESPACE: Final = "mcp_principal"
"""Dynamic metadata of who was proven, where a filter of Envoy's says it in a header only."""

KEY_HEADER: Final = "x-mcp-api-key"
"""A key that was in the query. The messages of a batch bring it, and so may clients."""

KEY_NAME: Final = "api_key"
"""In :data:`PRINCIPAL_NAMESPACE`: the name of an API key."""

CERTIFICATE: Final = "certificate"
"""In :data:`PRINCIPAL_NAMESPACE`: what a client's certificate says of it."""

CERTIFICATE_HEADER: Final = "x-mcp-certificate-name"
"""The same as a header. The messages of a batch have it, as they come without a certificate; clients can't write it."""

TOKENS_NAMESPACE: Final = "envoy.filters.http.jwt_authn"
"""Dynamic metadata of what Envoy's filter for access tokens has verified, whatever the filter's own name is."""

CLAIMS: Final = "payload"
"""In :data:`TOKENS_NAMESPACE`: the claims of the token."""

SPACE_DELIMITED: Final = ("scope", "scp")
"""Claims that are lists, in metadata and for rules, whatever they are in the token."""

CLAIMS_HEADER: Final = "x-mcp-claims"
"""The claims of a token that Envoy's filter has verified, as they stand in it: JSON in base64url. As metadata they would go to
the worker with each message, which takes Envoy far longer. Clients can't write it, and no server gets it."""

CLAIMS_SOURCE: Final = "claims"
"""In :data:`PRINCIPAL_NAMESPACE`: that no client has written :data:`CLAIMS_HEADER`. Where it is not said, as by a listener of
an earlier release, that is a client's, and claims are in metadata."""

SERVICE_NAMESPACE: Final = "envoy.filters.http.ext_authz"
"""Dynamic metadata of what an authorization service says beside headers of the request, whatever its filter's own name is."""

EXTERNAL: Final = "external"
EXTERNAL_GROUPS: Final = "external_groups"
EXTERNAL_SCOPES: Final = "external_scopes"
"""In :data:`PRINCIPAL_NAMESPACE`: what an authorization service said in headers of a caller, its groups joined by commas, its
scopes by spaces."""

AUTHENTICATION_UNAVAILABLE: Final = "authentication_unavailable"
"""In :data:`ERROR_HEADER`: the service that says who calls does not answer, or with an error of its own."""

MARKER_NAMESPACE: Final = "mcp_extproc"
"""Dynamic metadata by which local replies are distinguished. Internal: not for policies."""

RESPONSE_NAMESPACE: Final = "mcp_response"
"""Dynamic metadata of a request whose response has to be read: what the worker that reads it has to know. Internal: not for
policies."""

ONWARD_NAMESPACE: Final = "mcp_onward"
"""Dynamic metadata of a request that was decided before policies judged it: what only its server may see (path, session,
credentials). Envoy puts it into the request behind them. Internal, and secret: forwarded to nobody."""

ONWARD_PATH: Final = "path"
"""In :data:`ONWARD_NAMESPACE`: path and query. The other keys are names of headers."""

TELEMETRY_NAMESPACE: Final = "mcp_telemetry"
"""Dynamic metadata of a request for whoever makes spans, metrics and the audit of it. Internal: not for policies."""

RECORD_KEY: Final = "record"
"""In :data:`TELEMETRY_NAMESPACE`: all that a worker knows of it (:mod:`mcp_extproc.telemetry.records.worker_note`)."""

SAMPLED_KEY: Final = "sampled"
"""In :data:`TELEMETRY_NAMESPACE`: that its spans are not kept, for Envoy. Said only then."""

ONCE_CONSENTED: Final = "consented"
"""A request passes Envoy once more, and has another record then, if its user consents."""

ONCE_MORE: Final = "more"
"""The same in any case."""

WATCHED_KEY: Final = "mcp_extproc.watched"
"""Key of Envoy's runtime: percentage of requests that have a record while nothing but the status page wants any."""

RECORD_FACTS: Final = ("consent", "error_code", "error_reason")
"""Keys of :data:`NAMESPACE` that records have: what became of a request, which may be known after its answer began. All else
is in :data:`RECORD_KEY`."""

VETTING_NAMESPACE: Final = "mcp_vetting"
"""Dynamic metadata of a call about which the user has to be asked: what the worker that asks has to know. Internal: not for
policies."""

CALL_KEY: Final = "call"
"""In :data:`VETTING_NAMESPACE`: that, sealed."""

VETTING_KEY: Final = "x-mcp-vetting"
"""gRPC metadata of an exchange that asks a user and runs the call: Envoy's filter sends it."""

READS_KEY: Final = "reads"
"""In :data:`RESPONSE_NAMESPACE`: which responses are read, and on which stream."""

READS_LATER: Final = "later/"
"""Start of the values of :data:`READS_KEY` for responses with a stream of their own."""

READS_EVENTS: Final = f"{READS_LATER}events"
READS_ALL: Final = f"{READS_LATER}all"

READS_HERE: Final = "here"
"""The response comes along on the request's stream."""

CONTENT_ENCODING: Final = "content-encoding"

RESPONSE_HEADERS: Final = (":status", "content-type", CONTENT_ENCODING)
"""What the worker that reads a response gets of its head."""

RESPONSE_KEY: Final = "x-mcp-response"
"""gRPC metadata of an exchange that is the response to a forwarded request: Envoy's filter sends it."""

EARLY_HIDES: Final = ":scheme"
EARLY_SHOWS: Final = "x-forwarded-proto"
"""How an exchange in front of policies that read no body is known. There the worker decides a request where that has no effect
yet, and otherwise finds out what it is.

Envoy gives each request both headers, whatever a client sends. The filter of such an exchange sends the second one and never
the first; all others that are asked about requests send the first one and never the second (``forward_rules``). So what is
written into a request, or removed, makes none of them look like the other: if the one header that it would send is not there,
neither is sent, and the worker refuses the request. (gRPC metadata, as :data:`EARLY_KEY`, costs Envoy 21,000 instructions, and
a route's name more, as it needs CEL.)"""

EARLY_FACT: Final = "early"
"""In :data:`NAMESPACE`: whether such an exchange has decided. Nobody decides again then."""

EARLY_KEY: Final = "x-mcp-early"
"""gRPC metadata of such an exchange from an Envoy whose configuration is of an earlier release."""

READ_KEY: Final = "pass_through"
"""In :data:`MARKER_NAMESPACE`: the request is an MCP message on a pass-through route, or was refused there."""

METADATA_KEY: Final = "x-mcp-metadata"
"""gRPC metadata of an exchange: which keys of :data:`NAMESPACE` are read, so that a worker can leave out the others. Those
that the listener reads, separated by commas; a semicolon; those that its table of routes reads, from :data:`ROUTES_READ`.
Where either is not said, all may be read: not to be told means to write all."""

ROUTES_READ: Final = "read"
"""In :data:`MARKER_NAMESPACE`, in the metadata of routes: the keys that the routes' table reads."""

ROUTES_REMOVE: Final = "*"
"""In :data:`ROUTES_READ`, among keys, of which none is called so: the routes to servers remove the headers that workers leave
to them. Where it is not said, as by a table of an earlier release, workers remove those, too."""

REFUSED_READS: Final = ("server", "id_json")
"""What a worker looks at in :data:`NAMESPACE` when it is asked about a server's HTTP error."""

ASKED_HEADER: Final = "x-mcp-asked"
"""On questions of a check: which of the services that say who calls is asked, by the label of its section."""

RESOURCE_METADATA_PATH = "/.well-known/oauth-protected-resource"
"""In front of the endpoint's path: where clients find which authorization servers there are (RFC 9728 section 3.1)."""


_MAIN_ROUTE: Final = "endpoint"
_VIRTUAL_ROUTE: Final = "virtual"


def route_of(endpoint: str) -> str:
    """The middle of the names of an endpoint's routes: what stands before it says which visit comes next, what stands behind
    it which parts of the request are sent. A name may have a slash in it.

    >>> route_of(""), route_of("team/readonly")
    ('endpoint', 'virtual/team:readonly')
    """
    return f"{_VIRTUAL_ROUTE}/{endpoint.replace('/', ':')}" if endpoint else _MAIN_ROUTE


def endpoint_of(route: str) -> str | None:
    """The endpoint that the name of a route is made of; ``None`` where it is made of none.

    >>> endpoint_of("mcp/endpoint/streams"), endpoint_of("mcp/virtual/team:readonly/streams"), endpoint_of("mcp/other")
    ('', 'team/readonly', None)
    """
    match route.split("/"):
        case [_, kind, *_] if kind == _MAIN_ROUTE:
            return ""
        case [_, kind, name, *_] if kind == _VIRTUAL_ROUTE:
            return name.replace(":", "/")
    return None
