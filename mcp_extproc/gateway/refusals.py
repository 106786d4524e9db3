"""Every error that the gateway itself answers with, in one place: code, message, and HTTP status.

A request that was read and whose session is good fails at 200; other statuses are what the transport demands
(docs/protocol.md, "HTTP status of errors").
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from mcp_extproc.contract import VIRTUAL_SERVER_HEADER
from mcp_extproc.gateway.advice import advice_on_credentials
from mcp_extproc.gateway.vetting.question import Verdict
from mcp_extproc.mcp import versions
from mcp_extproc.mcp.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    RESOURCE_NOT_FOUND,
    UNSUPPORTED_PROTOCOL_VERSION,
    McpError,
)

MAX_QUOTED_CHARS = 256
"""Most of a client's own text that is repeated to it."""

_SERVED_VERSIONS = ", ".join(versions.SUPPORTED)


# -- The transport --------------------------------------------------------------------------------------------------------


def path(endpoint: str | None) -> McpError:
    """Another path than the endpoint's. Without a main one, nobody is told of others: those know who are to know."""
    return _transport(404, "path", nothing_served(endpoint))


def nothing_served(endpoint: str | None) -> str:
    """What is said of a path that is none."""
    return "Nothing is served here." if endpoint is None else f"Nothing is served here: the MCP endpoint is {endpoint}."


def virtual_server_unknown() -> McpError:
    """A header that names no virtual server. Which there are is nobody's business."""
    return _transport(404, "virtual_server", f"{VIRTUAL_SERVER_HEADER} names no virtual server of this gateway.")


def virtual_server_twice() -> McpError:
    """A header that stands there more than once: whoever reads only one of them would take it for another."""
    return _transport(400, "virtual_server", f"{VIRTUAL_SERVER_HEADER} is there more than once: send it once.")


def virtual_server_not_chosen() -> McpError:
    """A virtual server with authentication of its own: here the caller has been through another one's."""
    message = (
        f"This virtual server has authentication of its own, so {VIRTUAL_SERVER_HEADER} can't choose it: use its URL."
    )
    return _transport(400, "virtual_server", message)


def http_method(method: str) -> McpError:
    """A verb that MCP does not use."""
    message = f"HTTP method {method[:16]} is not served here: send POST, GET for a stream, or DELETE to end a session."
    return _transport(405, "http_method", message, headers=(("allow", "POST, GET, DELETE"),))


def stream(why: str) -> McpError:
    """A GET that can't have a stream: 405 and no third choice (basic/transports, Listening for Messages from the Server)."""
    return _transport(
        405, "no_stream", f"There is no stream for this GET: {why}.", headers=(("allow", "POST, DELETE"),)
    )


def too_many_streams() -> McpError:
    """A GET where others have all the streams that a worker, or the client's principal, may have (RFC 6585 section 4)."""
    message = "Too many streams are open: see `limits.streams` in the gateway's configuration. Try again later."
    return _transport(429, "too_many_streams", message, headers=(("retry-after", "5"),))


def accept_stream() -> McpError:
    """A GET of a client that would not take an event stream."""
    return _transport(406, "accept", "Send Accept: text/event-stream; a GET is answered with an event stream.")


def host() -> McpError:
    """DNS rebinding: a foreign name that resolves to this machine."""
    return _transport(
        403, "host", "This host is not served here: use localhost, or add the name to `listen.allowed_hosts`."
    )


def unauthenticated() -> McpError:
    """A request that nobody is proven to have sent (RFC 6750 section 3)."""
    return McpError(
        INVALID_REQUEST,
        "Authentication is required.",
        reason="authentication_required",
        status=401,
        headers=(("www-authenticate", "Bearer"),),
    )


def several_keys() -> McpError:
    """A request with a key in a header that is there more than once: a proxy may have looked at another one."""
    return McpError(
        INVALID_REQUEST,
        "The header of the API key is there more than once: send it once.",
        reason="invalid_api_key",
        status=401,
        headers=(("www-authenticate", "ApiKey"),),
    )


def origin() -> McpError:
    """A web page that may not call."""
    return _transport(
        403, "origin", "Pages of this origin may not call the gateway: see `origins` in its configuration."
    )


def content_type() -> McpError:
    """A body that is not declared as JSON."""
    return _transport(415, "content_type", "The body has to be JSON: send Content-Type: application/json.")


def charset() -> McpError:
    """JSON declared in another encoding than UTF-8, which a server that obeys could read as another call."""
    return _transport(415, "charset", "JSON is sent in UTF-8 (RFC 8259 section 8.1): leave the charset out.")


def content_encoding() -> McpError:
    """A compressed body, which policy could not read."""
    return _transport(415, "content_encoding", "Encoded bodies are not read: send the JSON without Content-Encoding.")


def accept() -> McpError:
    """A client that would not take both kinds of answers."""
    return _transport(406, "accept", "Send Accept: application/json, text/event-stream; an answer may be either.")


def too_large(limit: int) -> McpError:
    """A body over the limit, in bytes."""
    return _transport(413, "too_large", f"The body is larger than the {limit} bytes allowed (limits.request_bytes).")


def not_held(held: int) -> McpError:
    """A body that is longer than what Envoy holds on this route, in bytes."""
    return _transport(413, "too_large", f"The body is larger than what may be held on this route: {held} bytes came.")


def unread_method(method: str) -> McpError:
    """A verb that MCP does not use, on a pass-through route."""
    message = f"Only MCP may pass here, and HTTP method {method[:16]} is none of its."
    return _transport(405, "http_method", message, headers=(("allow", "POST, GET, DELETE"),))


def unread_body(method: str) -> McpError:
    """A body where MCP has none, on a pass-through route."""
    return _transport(400, "http_body", f"Only MCP may pass here, where a {method[:16]} has no body and no upgrade.")


def unread_batch() -> McpError:
    """A batch on a pass-through route: metadata has room for one method, and policies would judge that one."""
    return _transport(400, "batch", "Batches may not pass here: send one message in each POST.")


def version_header(version: str) -> McpError:
    """A version header that names no version we know."""
    message = f"MCP-Protocol-Version {version[:64]} is not supported: use one of {_SERVED_VERSIONS}."
    return _transport(400, "unsupported_protocol_version", message)


def modern(version: str) -> McpError:
    """A request of a version without handshake. Newer clients fall back to ``initialize`` on this answer."""
    return McpError(
        UNSUPPORTED_PROTOCOL_VERSION,
        f"Protocol version {version[:64]} is not served here: use initialize with one of {_SERVED_VERSIONS}.",
        reason="unsupported_protocol_version",
        status=400,
        data={"supported": list(versions.SUPPORTED), "requested": version[:64]},
    )


def batch(why: str) -> McpError:
    """A batch that 2025-03-26 does not allow."""
    return _transport(400, "invalid_batch", f"Not a valid batch: {why}.")


def initialize_without_id() -> McpError:
    """``initialize`` sent as a notification."""
    return _transport(400, "invalid_request", "initialize is a request and needs an id.")


def session_missing() -> McpError:
    """No session id where one is needed."""
    message = "Mcp-Session-Id is missing: send initialize first, then the id it answers with."
    return _transport(400, "session_missing", message)


def session_unknown() -> McpError:
    """A session id that is none of ours, whatever the reason."""
    message = "Session not found: it ended, expired or is not one of this endpoint. Send initialize."
    return _transport(404, "session_unknown", message)


# -- Requests that were read ----------------------------------------------------------------------------------------------


def unknown_method(method: str) -> McpError:
    """A method that is not served."""
    return McpError(METHOD_NOT_FOUND, f"The method {method} is not served.", reason="unknown_method")


def unknown_tool(name: str) -> McpError:
    """A tool that does not exist, or is hidden: the error is the same."""
    return McpError(INVALID_PARAMS, f"Unknown tool: {name[:MAX_QUOTED_CHARS]}", reason="unknown_tool")


def unknown_prompt(name: str) -> McpError:
    """A prompt that is not there."""
    return McpError(INVALID_PARAMS, f"Unknown prompt: {name[:MAX_QUOTED_CHARS]}", reason="unknown_prompt")


def unknown_resource(uri: str | None) -> McpError:
    """A URI that belongs to no server (server/resources, Error Handling). It is not repeated where it is not known."""
    return McpError(
        RESOURCE_NOT_FOUND,
        "Resource not found: the URI belongs to no server, or to more than one.",
        reason="unknown_resource",
        data=None if uri is None else {"uri": uri[:MAX_QUOTED_CHARS]},
    )


def not_offered(method: str, server: str) -> McpError:
    """A server that does not have what the method is about."""
    return McpError(METHOD_NOT_FOUND, f"Server '{server}' does not offer {method}.", reason="not_offered")


def not_as_judged() -> McpError:
    """What would be done is not what policies were shown."""
    message = (
        "The request is not the one that the gateway's policies judged: something has changed meanwhile. Try again."
    )
    return McpError(INTERNAL_ERROR, message, reason="not_as_judged")


def denied() -> McpError:
    """A use that rules forbid, by its arguments or method, of what the caller may see."""
    message = "This use is not allowed: the gateway's authorization refuses its arguments or its method."
    return McpError(INVALID_REQUEST, message, reason="not_authorized")


def not_consented(verdict: Verdict, server: str, tool: str) -> McpError:
    """A call that its user was asked about, and that does not run."""
    return _not_run(f"consent_{verdict.value}", _WHY_NOT[verdict], server, tool)


def consent_unavailable(server: str, tool: str) -> McpError:
    """A call that needs consent, of a client that can't ask its user."""
    why = "it needs the user's consent, and the client did not declare elicitation of forms when it initialized"
    return _not_run("consent_unavailable", why, server, tool)


def consent_mismatch(server: str, tool: str) -> McpError:
    """A call that is not the one that was consented to, or that has run."""
    why = "it is not the call that the user consented to, or that call has run"
    return _not_run("consent_mismatch", why, server, tool)


_WHY_NOT: Final[Mapping[Verdict, str]] = {
    Verdict.DECLINED: "the user declined",
    Verdict.CANCELLED: "the user did not decide",
    Verdict.FAILED: "the client answered the question to its user with an error",
    Verdict.INVALID: "the client's answer to the question to its user is not valid",
    Verdict.WITHDRAWN: "the client cancelled it while its user was asked",
    Verdict.TIMEOUT: "the user did not answer in time (vetting[].timeout)",
    Verdict.CLOSED: "the gateway's worker that asked the user ends; call again",
    Verdict.BUSY: "too many calls wait for this user's consent, or the gateway holds as much as it may for this client"
    " (limits.held_bytes); call again",
}


def _not_run(reason: str, why: str, server: str, tool: str) -> McpError:
    return McpError(
        INVALID_REQUEST,
        f"The call of {tool[:MAX_QUOTED_CHARS]} on server '{server}' did not run: {why}.",
        reason=reason,
        data={"reason": reason},
    )


def stream_too_large(most: int) -> McpError:
    """The event stream of a call that its user consented to is longer than may be held for a client, in bytes."""
    message = (
        f"The answer was cut: the event stream of a call with consent has at most {most} bytes (limits.response_bytes)."
    )
    return McpError(INTERNAL_ERROR, message, reason="too_large")


def insufficient_scope(scopes: Sequence[str], held: Collection[str], resource_metadata: str) -> McpError:
    """A use for which the caller's token lacks scopes (RFC 6750 section 3.1; 2025-11-25 basic/authorization, Scope Challenge
    Handling).

    Args:
        scopes: what is missing.
        held: what the caller needs besides. Many clients ask for what the challenge names and nothing else: their next token
            would lack these, and with two uses that take turns they would log in each time.
        resource_metadata: URL of the metadata.
    """
    missing = " ".join(scopes)
    wanted = " ".join([*sorted(held), *scopes])
    challenge = f'Bearer error="insufficient_scope", scope="{wanted}", resource_metadata="{resource_metadata}"'
    return McpError(
        INVALID_REQUEST,
        f"The access token lacks scopes: {missing}.",
        reason="insufficient_scope",
        status=403,
        data={"reason": "insufficient_scope", "scope": missing},
        headers=(("www-authenticate", challenge),),
    )


def broken(id: bytes | None = None) -> McpError:
    """Something of ours broke. ``id``: of the request, if it could be read."""
    message = "The gateway failed to handle this request; its log says why."
    return McpError(INTERNAL_ERROR, message, reason="internal", status=500 if id is None else 200, id=id)


def invalid_params(message: str) -> McpError:
    """Parameters that are missing or of the wrong type."""
    return McpError(INVALID_PARAMS, message, reason="invalid_params")


def invalid_cursor() -> McpError:
    """Lists are answered whole, so no cursor of ours exists (server/utilities/pagination, Error Handling)."""
    return McpError(INVALID_PARAMS, "Unknown cursor: the list is given whole, in one page.", reason="invalid_cursor")


def no_answer(what: str) -> McpError:
    """No server gave an answer."""
    return McpError(INTERNAL_ERROR, f"No answer: {what}.", reason="upstream_unavailable")


def challenged(what: str, status: int, www_authenticate: str) -> McpError:
    """The only server refuses the client's own credentials, and says how to get others."""
    headers = (("www-authenticate", www_authenticate),) if www_authenticate else ()
    return McpError(INTERNAL_ERROR, f"No answer: {what}.", reason="credentials_refused", status=status, headers=headers)


def credentials_refused(server: str, status: int, keys: Sequence[str], own: str) -> McpError:
    """A server answered 401 or 403.

    Args:
        server: its name.
        status: of its answer.
        keys: by which it gets credentials.
        own: what it says about it, without what is configured as a secret; empty for nothing.
    """
    said = f" It says: {own}" if own else ""
    what = f"server '{server}' answered HTTP {status}{advice_on_credentials(status, keys)}"
    return McpError(INTERNAL_ERROR, f"No answer: {what}.{said}", reason="credentials_refused")


def busy(what: str) -> McpError:
    """What would have to be held is more than there is room for."""
    why = "the gateway holds as much as it may for this client, or for all (limits.held_bytes)"
    return McpError(INTERNAL_ERROR, f"The gateway is busy: {what}, as {why}. Try again.", reason="busy")


def _transport(status: int, reason: str, message: str, headers: tuple[tuple[str, str], ...] = ()) -> McpError:
    return McpError(INVALID_REQUEST, message, reason=reason, status=status, headers=headers)
