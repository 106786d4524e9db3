"""What an operator can do about a server that refuses a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

NOT_ASKED: Final = (
    "was not asked: Envoy has no token for it from the token_endpoint of credentials.client_credentials, and tries again"
    " each second"
)
"""A clause about a server whose token can't be had."""


NO_SUBJECT: Final = (
    "was not asked: credentials.token_exchange exchanges an access token of the caller's, and this caller has none that was"
    " verified"
)
"""A clause about a server for which a caller brings no token."""


def advice_on(status: int, keys: Sequence[str], *, speaks_sse: bool = False) -> str:
    """The end of a clause that says what a server answered to a first request; empty where its status does not tell.

    Args:
        status: of its answer.
        keys: by which it gets credentials.
        speaks_sse: whether it was asked as an HTTP+SSE server.
    """
    if status in (401, 403):
        return advice_on_credentials(status, keys)
    if status not in (404, 405):
        return ""
    if speaks_sse:
        return ': is its path right? For Streamable HTTP, set "type": "http" (in YAML transport: streamable_http)'
    return ': is its path right? For HTTP+SSE, set "type": "sse" (in YAML transport: sse)'


def advice_on_credentials(status: int, keys: Sequence[str]) -> str:
    """The end of such a clause, for any request.

    >>> advice_on_credentials(401, [])
    ': it wants credentials, set headers.Authorization (the gateway runs no OAuth login)'
    >>> advice_on_credentials(403, ["credentials.forward", "credentials.claims"])
    ': it refuses the credentials in credentials.forward and credentials.claims, look whether they are still valid'

    >>> advice_on_credentials(401, ["credentials.pass_through"])
    ': clients log in at it themselves (credentials.pass_through)'

    Args:
        status: 401 or 403.
        keys: by which it gets credentials.
    """
    if "credentials.pass_through" in keys:
        return ": clients log in at it themselves (credentials.pass_through)"
    if keys:
        return f": it refuses the credentials in {' and '.join(keys)}, look whether they are still valid"
    if status == 401:
        return ": it wants credentials, set headers.Authorization (the gateway runs no OAuth login)"
    return ": it may want credentials, set headers.Authorization"
