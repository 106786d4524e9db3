"""Whether a request may come in at all, judged by its head. Each check passes or raises.

Source: MCP 2025-11-25 basic/transports (Streamable HTTP, Security Warning, Protocol Version Header).
"""

from __future__ import annotations

from mcp_extproc.config import Limits
from mcp_extproc.config.authentication import Authentication
from mcp_extproc.config.endpoint import Endpoint
from mcp_extproc.gateway import refusals
from mcp_extproc.gateway.principal import ANONYMOUS
from mcp_extproc.gateway.request import RequestHead
from mcp_extproc.mcp import jsontext, methods, transport, versions
from mcp_extproc.mcp.envelope import Notification, Request


def check_place(head: RequestHead, endpoint: Endpoint) -> None:
    """An endpoint that is asked for under a name, and from a page, that may.

    Raises:
        McpError: 403.
    """
    if endpoint.hosts is not None and not transport.host_allowed(head.headers.get("host", ""), endpoint.hosts):
        raise refusals.host()
    origin = head.headers.get("origin")
    if origin is not None and not transport.origin_allowed(origin, endpoint.origins):
        raise refusals.origin()


def check_principal(head: RequestHead, authentication: Authentication | None) -> None:
    """A caller that Envoy proved, where there has to be one. Envoy lets no other request pass, as it is configured here. Of
    several keys it takes the first.

    Raises:
        McpError: 401.
    """
    if authentication is not None and not authentication.anonymous and head.principal == ANONYMOUS:
        raise refusals.unauthenticated()
    keys = None if authentication is None else authentication.api_keys
    if keys is not None and head.repeated and not keys.headers.isdisjoint(head.repeated):
        raise refusals.several_keys()


def check_post(head: RequestHead, limits: Limits) -> None:
    """A POST whose body can be read and whose client takes our answers.

    Raises:
        McpError: 415, 406 or 413.
    """
    content_type = head.headers.get("content-type", "")
    if transport.media_type(content_type) != transport.JSON:
        raise refusals.content_type()
    if not transport.is_utf8(content_type):
        raise refusals.charset()
    if "content-encoding" in head.headers:
        raise refusals.content_encoding()
    if not transport.accepts(head.headers.get("accept", ""), transport.JSON, transport.SSE):
        raise refusals.accept()
    length = head.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limits.request_bytes:
        raise refusals.too_large(limits.request_bytes)


def check_get(head: RequestHead) -> None:
    """A GET whose client takes an event stream.

    Raises:
        McpError: 406 or 400.
    """
    if not transport.accepts(head.headers.get("accept", ""), transport.SSE):
        raise refusals.accept_stream()
    check_version_header(head)


def check_version_header(head: RequestHead) -> None:
    """A version header that is there names a version we know. The session's own version counts all the same.

    Raises:
        McpError: 400.
    """
    version = head.headers.get("mcp-protocol-version")
    if version is not None and version not in versions.SUPPORTED:
        raise refusals.version_header(version)


def check_era(head: RequestHead, message: Request | Notification) -> None:
    """No request of 2026-07-28, recognised by its ``_meta``, its version header, or a method that exists only there.

    Raises:
        McpError: 400 with -32022.
    """
    requested = _meta_version(message)
    if requested is None and not methods.opens_session(message.method):
        header = head.headers.get("mcp-protocol-version")
        if header == versions.MODERN:
            requested = header
        elif methods.only_modern(message.method) and "mcp-session-id" not in head.headers:
            requested = header or versions.MODERN
    if requested is not None:
        raise refusals.modern(requested)


def _meta_version(message: Request | Notification) -> str | None:
    raw = message.params.get("_meta")
    if raw is None or versions.META_VERSION_KEY.encode() not in bytes(raw):
        return None
    return jsontext.text_at(raw, versions.META_VERSION_KEY)
