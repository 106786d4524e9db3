"""What Streamable HTTP asks of the headers of a request.

Source: MCP 2025-11-25 basic/transports (Streamable HTTP, Security Warning).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from functools import lru_cache
from typing import Final

JSON = "application/json"
SSE = "text/event-stream"

JSON_OR_SSE = f"{JSON}, {SSE}"
"""``Accept`` of a POST (Streamable HTTP, Sending Messages to the Server 2)."""

UNBUFFERED: Final = ("x-accel-buffering", "no")
"""Header of event streams. nginx with its defaults would keep an event until there are kilobytes of them, and the head of the
answer with it, for which clients wait."""

ENDPOINT = "endpoint"
"""The first event of an HTTP+SSE server: where messages go (2024-11-05 basic/transports, HTTP with SSE)."""

_AUTHORITY = re.compile(
    r"(?:\[(?P<literal>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\.?)(?::(?P<port>[0-9]{0,5}))?"
)
_MAX_AUTHORITY_CHARS = 262
"""A host name of 255, a dot and a port."""

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


def host_of(authority: str) -> str | None:
    """The host of a ``Host`` header, in lower case, without port, brackets and closing dot; ``None`` if it names no host.

    It is one host name or address, and nothing else: Envoy joins a second ``Host`` of a request to the first with a comma
    (RFC 9110 section 7.2, RFC 1123 section 2.1).

    >>> host_of("LocalHost:1975"), host_of("[::1]:80"), host_of("evil.example,localhost")
    ('localhost', '::1', None)
    """
    found = _AUTHORITY.fullmatch(authority) if len(authority) <= _MAX_AUTHORITY_CHARS else None
    if found is None or int(found["port"] or 0) > 65535:
        return None
    return (found["literal"] or found["name"]).lower()


@lru_cache(maxsize=1024)
def is_loopback_host(host: str) -> bool:
    """Whether a host, as :func:`host_of` finds it, is this machine itself.

    >>> is_loopback_host("localhost"), is_loopback_host("::1"), is_loopback_host("localhost.evil.com")
    (True, True, False)
    """
    if host == "localhost" or host.endswith(".localhost"):
        return True  # RFC 6761 section 6.3
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_allowed(authority: str, allowed: Collection[str]) -> bool:
    """Whether a ``Host`` names this machine itself, or one of these hosts.

    Args:
        authority: the header, possibly with a port.
        allowed: further hosts, as :func:`host_of` finds them.
    """
    host = host_of(authority)
    return host is not None and (host in allowed or is_loopback_host(host))


def origin_allowed(origin: str, allowed: tuple[str, ...] | None) -> bool:
    """Whether a page of this origin may call the gateway.

    Args:
        origin: the ``Origin`` header, possibly ``null``.
        allowed: origins in lower case, ``*`` for all; ``None`` stands for every loopback origin.
    """
    if allowed is not None:
        return "*" in allowed or origin.lower() in allowed
    scheme, separator, authority = origin.partition("://")
    return separator != "" and scheme.lower() in ("http", "https") and host_allowed(authority, ())
