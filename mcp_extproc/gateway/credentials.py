"""What a server is sent as credentials: the gateway's own, as it is now, and what it gets of the caller.

What is of a caller belongs to nobody else: sessions with servers, lists, streams and plans are kept by it, too
(:attr:`mcp_extproc.gateway.caller.Caller.key`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from mcp_extproc.config import Server
from mcp_extproc.config.credentials import AUTHORIZATION, Credentials, QueryCredential
from mcp_extproc.gateway.principal import Claims, claim_at
from mcp_extproc.gateway.redaction import Redactor
from mcp_extproc.gateway.request import Carried, Headers

MAX_CLAIM_CHARS: Final = 4096

_IN_A_HEADER = re.compile(r"[!-~](?:[ -~]*[!-~])?")
"""Text that reaches a server as it is (RFC 9110 section 5.5), and can't be read as anything else."""

_MARK: Final = "."
"""Between the name of a session and what stands for the caller's credentials; no name has one."""


class OwnCredential:
    """What the gateway itself sends a server, as it is now. The one thing about a server that changes while it is served: a
    file with a secret is read again.

    Args:
        server: as it is configured.
        path: ``:path`` of its endpoint, query included.
        headers: that are configured, names in lower case.
    """

    __slots__ = ("_base", "_configured", "_secrets", "_sent", "_template", "file", "headers", "path", "redact")

    def __init__(self, server: Server, path: str, headers: Headers) -> None:
        own = server.credentials.own
        self._configured, self._base, self._template = headers, path, own
        self._secrets = server.secrets
        self._sent: tuple[str, ...] = ()
        self.file = None if own is None else own.file
        """With the credential; ``None`` where there is none."""
        self.headers = headers
        """Configured request headers, names in lower case. They hold credentials: never log them."""
        self.path = path
        """``:path`` of its endpoint, query included. It may hold a credential."""
        self.redact = Redactor(server.secrets, "" if server.command is not None else server.path_and_query)
        if own is not None and own.value is not None:
            self.replace(own.value.get_secret_value())

    def replace(self, secret: str) -> None:
        """Send this credential from now on. What the server writes may still repeat the one before."""
        own = self._template
        assert own is not None
        if isinstance(own, QueryCredential):
            start = "&" if "?" in self._base else "?"
            self.path = f"{self._base}{start}{own.name}={quote(secret, safe='')}"
        else:
            self.headers = (*self._configured, (own.name.lower(), own.prefix + secret))
        self.redact = Redactor((*self._secrets, *self._sent, secret), self._base)
        self._sent = (secret,)

    def __repr__(self) -> str:
        return "OwnCredential(...)"


@dataclass(frozen=True, slots=True)
class OfCallers:
    """What a server gets of each caller."""

    forward: tuple[tuple[str, str], ...]
    """Names of the client's headers and of the server's, in lower case."""
    claims: tuple[tuple[str, str], ...]
    """Names of claims, and of the server's headers."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the server's headers."""
        return tuple(target for _, target in (*self.forward, *self.claims))

    def of(self, headers: Mapping[str, str], claims: Claims) -> Headers:
        """The server's headers.

        Args:
            headers: of the client, by lower-case name.
            claims: that were verified.
        """
        forwarded = ((target, headers.get(name)) for name, target in self.forward)
        claimed = ((target, text_of(claim_at(claims, name))) for name, target in self.claims)
        return tuple((target, value) for target, value in (*forwarded, *claimed) if value)

    def again(self, headers: Mapping[str, str]) -> Headers:
        """The same, of a request that has them already."""
        return tuple((target, headers[target]) for target in self.targets if headers.get(target))


def of_callers(credentials: Credentials) -> OfCallers | None:
    """What is configured; ``None`` for nothing."""
    if not credentials.of_callers:
        return None
    return OfCallers(
        (
            *((one.name.lower(), one.target.lower()) for one in credentials.forward),
            *(((AUTHORIZATION, AUTHORIZATION),) if credentials.pass_through else ()),
        ),
        tuple((one.claim, one.header.lower()) for one in credentials.claims),
    )


def text_of(claim: object) -> str | None:
    """A claim as a header has it; ``None`` where it has no such text.

    >>> [text_of(claim) for claim in ("alice", 7.0, True, ["a", "b"], ["a,b", "c"], {"a": 1}, "a\\r\\nb", "")]
    ['alice', '7', 'true', 'a,b', None, None, None, None]
    """
    if isinstance(claim, list):
        texts = [text_of(item) for item in claim]
        if not all(texts) or any("," in (text or "") for text in texts):
            return None
        text = ",".join(text or "" for text in texts)
    elif isinstance(claim, bool):
        text = "true" if claim else "false"
    elif isinstance(claim, float) and claim.is_integer():
        text = str(int(claim))
    elif isinstance(claim, str | int | float):
        text = str(claim)
    else:
        return None
    return text if len(text) <= MAX_CLAIM_CHARS and _IN_A_HEADER.fullmatch(text) else None


# -- Whose it is ------------------------------------------------------------------------------------------------------------


def digest(headers: Headers) -> str:
    """What stands for a caller's credentials with one server; empty for none. They can't be found from it, unless somebody
    guesses them."""
    if not headers:
        return ""
    # With lengths: no two have the same text.
    text = "".join(f"{len(part)}:{part}" for header in headers for part in header)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def key_of(session: str, carried: Carried) -> str:
    """The key of a session's client that has these credentials. It is not for logs.

    >>> key_of("s", {}), session_of(key_of("s", {"a": (("x-token", "t"),)}))
    ('s', 's')
    """
    all_of_them = tuple((server, digest(headers)) for server, headers in carried.items() if headers)
    return f"{session}{_MARK}{digest(all_of_them)}" if all_of_them else session


def session_of(key: str) -> str:
    """The session in such a key: when it ends, it ends for whatever credentials its client has."""
    return key.partition(_MARK)[0]
