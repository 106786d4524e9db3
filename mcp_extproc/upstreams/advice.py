"""What an operator can do about a server that refuses the first request."""

from __future__ import annotations


def advice_on(status: int, *, has_credentials: bool, speaks_sse: bool = False) -> str:
    """The end of a clause that says what a server answered; empty where the status does not tell what to do.

    >>> advice_on(401, has_credentials=False)
    ': it wants credentials, set headers.Authorization (the gateway runs no OAuth login)'

    Args:
        status: of its answer.
        has_credentials: whether it was sent an ``Authorization``.
        speaks_sse: whether it was asked as an HTTP+SSE server.
    """
    if status in (401, 403) and has_credentials:
        return ": it refuses the credentials in headers.Authorization, look whether they are still valid"
    if status == 401:
        return ": it wants credentials, set headers.Authorization (the gateway runs no OAuth login)"
    if status == 403:
        return ": it may want credentials, set headers.Authorization"
    if status not in (404, 405):
        return ""
    if speaks_sse:
        return ': is its path right? For Streamable HTTP, set "type": "http" (in YAML transport: streamable_http)'
    return ': is its path right? For HTTP+SSE, set "type": "sse" (in YAML transport: sse)'
