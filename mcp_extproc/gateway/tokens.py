"""Tokens that callers' own ones were exchanged for (RFC 8693), for as long as they are good.

Each belongs to one server, one principal, and what the principal's token says (:attr:`Principal.worth`): a token for somebody
who acts for the principal (``act``), of a weaker login (``acr``), with other scopes, or for another audience or OAuth client
does not get what another one was exchanged for, which might be worth more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from mcp_extproc.bounded import MIB, Bounded, Lookups
from mcp_extproc.gateway.principal import BY_TOKEN
from mcp_extproc.gateway.request import Headers, RequestHead, Subject

_MAX_TOKENS = 8192
_MAX_BYTES = 32 * MIB

_BEARER = re.compile(r"Bearer ([A-Za-z0-9._~+/=-]+)")

_SETTLED_SECONDS: Final = 10.0
"""A token that was got within this time is not got again because its server refuses it: another one would fare no better."""

_AGAIN_SECONDS: Final = 60.0
"""Between two times that all tokens for a server are got anew, because it refused one and nobody knows whose."""


def subject_of(head: RequestHead) -> Subject | None:
    """Whose token may be exchanged: one that Envoy has verified. ``None`` for who is proven by something else."""
    who = head.principal
    if who.proven != BY_TOKEN:
        return None
    found = _BEARER.fullmatch(head.headers.get("authorization", ""))
    if found is None:
        return None
    return Subject(who.worth, found[1])


@dataclass(frozen=True, slots=True, eq=False)
class Granted:
    """What a token was exchanged for."""

    headers: Headers = field(repr=False)
    """For the server. They hold a credential: never log them."""
    since: float
    """Unix time in seconds."""
    until: float
    """The same; shortly before it expires."""


class Tokens:
    """The tokens that a worker has."""

    def __init__(self) -> None:
        self.lookups = Lookups()
        """Whether one has to be got."""
        self._granted: Bounded[tuple[str, str], Granted] = Bounded(_MAX_TOKENS, _MAX_BYTES)
        self._refused: dict[str, float] = {}

    def current(self, subject: Subject | None, server: str, now: float) -> Granted | None:
        """The token for a server; ``None`` where one has to be got.

        Args:
            subject: whose it is.
            server: for which it is.
            now: Unix time in seconds.
        """
        granted = None if subject is None else self._granted.get((subject.key, server))
        if granted is None or now >= granted.until or granted.since < self._refused.get(server, 0.0):
            self.lookups.misses += 1
            return None
        self.lookups.hits += 1
        return granted

    def keep(self, subject: Subject, server: str, granted: Granted) -> None:
        """Remember a token."""
        size = 512 + sum(len(value) for _, value in granted.headers)
        self._granted.keep((subject.key, server), granted, size)

    def refused(self, subject: Subject | None, server: str, now: float) -> None:
        """A server answered 401: a token for it that was got a while ago may be worth nothing any more, such as after its
        authorization server has changed its keys.

        Args:
            subject: whose token it was. ``None`` where that is not known: it may be anybody's, and all of them are got anew,
                but not each time that one is refused.
            server: which one.
            now: Unix time in seconds.
        """
        before = now - _SETTLED_SECONDS
        if subject is None:
            if before >= self._refused.get(server, 0.0) + _AGAIN_SECONDS:
                self._refused[server] = before
            return
        granted = self._granted.get((subject.key, server))
        if granted is not None and granted.since < before:
            self._granted.pop((subject.key, server))
