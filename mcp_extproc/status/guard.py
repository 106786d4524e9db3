"""Who may ask the page for anything: pages of its own origin, and programs of this machine.

A page of another site can make a browser send requests here. It can't read answers, as there is no CORS; what it could do by
sending alone is refused. A site whose name resolves to this machine (DNS rebinding) is of the same origin for the browser, but
its name is in ``Host``.

Source: Fetch Metadata Request Headers (W3C), section 3; RFC 6454; RFC 9110 section 7.2.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web

from mcp_extproc.address import names_this_machine

SELF_HEADER: Final = "x-status-page"
"""Requests that are passed on to the gateway have to have it: a page of another origin would have to ask first (a preflight),
and is not let."""

_POLICY: Final = "; ".join((
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'",
    "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'",
    "trusted-types 'none'",
))  # fmt: skip
"""Nothing foreign, nothing inline, and no text is ever taken for markup: the last two have a browser refuse even to try."""

HEADERS: Final = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
"""Of each answer."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def refusal(method: str, path: str, headers: Mapping[str, str]) -> str | None:
    """Why a request is refused; ``None`` if it is not.

    Args:
        method: of HTTP.
        path: of the URL.
        headers: of the request.
    """
    host = headers.get("host", "")
    if not names_this_machine(host):
        return "the page is for this machine: use localhost or a loopback address"
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        return "it comes from another origin"
    site, changes_nothing = headers.get("sec-fetch-site", "none"), method in ("GET", "HEAD")
    # A link leads to the page. All else may do something: for /events records are made, if only for a frame that stays empty.
    is_document = (
        headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest", "document") == "document"
    )
    is_link = changes_nothing and path == "/" and is_document
    if site not in ("none", "same-origin") and not is_link:
        return "it comes from another site"
    if not changes_nothing:
        if origin is None and site != "none":
            return "it has no Origin"
        if SELF_HEADER not in headers:
            return f"it has no {SELF_HEADER}"
    return None


@web.middleware
async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses what is not for the page."""
    if (why := refusal(request.method, request.path, request.headers)) is not None:
        raise web.HTTPForbidden(text=f"Refused: {why}.\n")
    return await handler(request)


async def with_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Has browsers refuse the rest. Called before any answer begins, errors included."""
    response.headers.update(HEADERS)
