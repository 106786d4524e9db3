"""What Streamable HTTP asks of the headers of a request.

Source: MCP 2025-11-25 basic/transports (Streamable HTTP, Security Warning).
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import urlsplit

JSON = "application/json"
SSE = "text/event-stream"

JSON_OR_SSE = f"{JSON}, {SSE}"
"""``Accept`` of a POST (Streamable HTTP, Sending Messages to the Server 2)."""

_MAX_AUTHORITY_CHARS = 253 + len(".:65535")
"""A name of the longest kind (RFC 1035 section 2.3.4), with a port. What is longer names nothing, and is not remembered."""

_UTF8 = re.compile(r'charset=(utf-?8|"utf-?8")')


def media_type(content_type: str) -> str:
    """The type without its parameters, in lower case.

    >>> media_type("Application/JSON; charset=utf-8")
    'application/json'
    """
    return content_type.partition(";")[0].strip().lower()


def is_utf8(content_type: str) -> bool:
    """Whether JSON is sent in the only encoding that it has between systems (RFC 8259 section 8.1).

    Some servers obey a ``charset`` all the same: in ``utf-7`` the same bytes are another call.

    >>> is_utf8("application/json"), is_utf8('application/json; charset="UTF-8"'), is_utf8("application/json;charset=utf-7")
    (True, True, False)
    """
    parameters = (parameter.strip().lower() for parameter in content_type.split(";")[1:])
    return all(_UTF8.fullmatch(parameter) for parameter in parameters if "charset" in parameter)


def accepts(accept: str, *wanted: str) -> bool:
    """Whether an ``Accept`` header takes all of these media types. Wildcards count, ``q=0`` refuses (RFC 9110 section 12.5.1).

    >>> accepts("text/event-stream, application/json", JSON, SSE), accepts("*/*", JSON), accepts("text/html", JSON)
    (True, True, False)
    """
    offered: dict[str, bool] = {}
    for part in accept.split(","):
        range_, *parameters = (piece.strip().lower() for piece in part.split(";"))
        offered[range_] = not any(p.startswith("q=") and not p[2:].strip("0.") for p in parameters)
    # The most specific range decides.
    ranges = ((kind, kind.partition("/")[0] + "/*", "*/*") for kind in wanted)
    return all(next((offered[range_] for range_ in choice if range_ in offered), False) for choice in ranges)


def is_loopback_host(authority: str) -> bool:
    """Whether a ``Host`` names this machine itself, with or without a port.

    >>> is_loopback_host("localhost:1975"), is_loopback_host("[::1]"), is_loopback_host("localhost.evil.com")
    (True, True, False)
    """
    return len(authority) <= _MAX_AUTHORITY_CHARS and _is_loopback_host(authority)


@lru_cache(maxsize=1024)
def _is_loopback_host(authority: str) -> bool:
    try:
        parts = urlsplit(f"//{authority}")
        host = (parts.hostname or "").rstrip(".")
        _ = parts.port
    except ValueError:
        return False
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True  # RFC 6761 section 6.3
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def origin_allowed(origin: str, allowed: tuple[str, ...] | None) -> bool:
    """Whether a page of this origin may call the gateway.

    Args:
        origin: the ``Origin`` header, possibly ``null``.
        allowed: origins in lower case, ``*`` for all; ``None`` stands for every loopback origin.
    """
    if allowed is not None:
        return "*" in allowed or origin.lower() in allowed
    scheme, separator, authority = origin.partition("://")
    return separator != "" and scheme.lower() in ("http", "https") and is_loopback_host(authority)
