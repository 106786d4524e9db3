"""Who sent a request, as Envoy proved it: from metadata that no client can write, never from a token."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import orjson

MAX_SHOWN: Final = 256
"""Characters of a subject in metadata and logs. OpenID Connect allows 255 (Core 1.0 section 2)."""

BY_TOKEN: Final = "token"  # noqa: S105 - a word
BY_KEY: Final = "key"
BY_CERTIFICATE: Final = "certificate"
""":attr:`Principal.proven` of who has an access token, an API key, or a client certificate."""

_OF_ONE_TOKEN: Final = frozenset({"exp", "iat", "nbf", "jti"})
"""Claims that are others in each token, and say nothing about what it may (RFC 7519 section 4.1)."""

Claims = Mapping[str, Any]


@dataclass(frozen=True)
class Principal:
    """A caller. Two are equal where the same is proven in the same way: by whom, and who it is. What else is known may differ
    from request to request: a session outlives a token, and follows the scopes of the next one."""

    proven: str
    """How: ``token``, ``key``, ``certificate``, ``external`` by a service, or ``existing`` by filters that are not the
    gateway's. Empty for nobody."""
    issuer: str
    """Who vouches for it; empty where nobody is named."""
    subject: str
    scopes: frozenset[str] = field(default=frozenset(), compare=False)
    groups: frozenset[str] = field(default=frozenset(), compare=False)
    client_id: str = field(default="", compare=False)
    """The OAuth client that acts for it."""
    claims: Claims = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def key(self) -> str:
        """What belongs to it is stored under this hash. Empty for anonymous callers, who are one principal, too."""
        if self == ANONYMOUS:
            return ""
        parts = (self.proven, self.issuer, self.subject)
        # With lengths: no two principals have the same text.
        text = "".join(f"{len(part)}:{part}" for part in parts)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    @cached_property
    def worth(self) -> str:
        """A hash of who it is and of all that its token says, but for when it was issued and how long it is good. Tokens where
        it is the same are worth as much as each other."""
        lasting = {name: value for name, value in self.claims.items() if name not in _OF_ONE_TOKEN}
        return hashlib.sha256(self.key.encode() + orjson.dumps(lasting, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]

    @property
    def told(self) -> Claims:
        """What servers may be told of it: its claims, or who it is, as ``sub``, where nothing has claims."""
        return self.claims or ({"sub": self.subject} if self.subject else {})

    @property
    def shown(self) -> str:
        """The subject, for metadata and logs."""
        return self.subject[:MAX_SHOWN]


ANONYMOUS: Final = Principal("", "", "")
"""Who brought nothing, where that is allowed."""


def of_claims(proven: str, claims: Claims, subject_claim: str, groups_claim: str) -> Principal:
    """The principal of a token's verified claims; anonymous where they name nobody.

    Source: RFC 9068 section 2.2; ``scp`` and ``azp`` are what some authorization servers have instead.

    Args:
        proven: how.
        claims: all of the token.
        subject_claim: name of the claim that says who it is.
        groups_claim: name of the one with its groups, see :func:`claim_at`.
    """
    subject = _text(claims.get(subject_claim))
    if not subject:
        return ANONYMOUS
    return Principal(
        proven,
        _text(claims.get("iss")),
        subject,
        frozenset().union(*(scopes_of(claims.get(name)) for name in ("scope", "scp"))),
        groups_of(claim_at(claims, groups_claim)),
        _text(claims.get("client_id")) or _text(claims.get("azp")),
        claims,
    )


def claim_at(claims: Claims, name: str) -> object:
    """A claim, or what is below one; ``None`` where there is none. Names may have dots themselves, as URLs do.

    >>> claim_at({"realm_access": {"roles": ["admin"]}}, "realm_access.roles")
    ['admin']
    >>> claim_at({"https://example.com/groups": ["admin"]}, "https://example.com/groups")
    ['admin']
    """
    if name in claims:
        found: object = claims[name]
        return found
    dots = (at for at, character in enumerate(name) if character == ".")
    below = (claim_at(claims[name[:at]], name[at + 1 :]) for at in dots if isinstance(claims.get(name[:at]), Mapping))
    return next((found for found in below if found is not None), None)


def scopes_of(value: object) -> frozenset[str]:
    """Scopes as text with spaces, or as a list (RFC 6749 section 3.3)."""
    return frozenset(value.split()) if isinstance(value, str) else _texts(value)


def groups_of(value: object) -> frozenset[str]:
    """Groups as a list, or one as text, which may have spaces."""
    return frozenset([value] if value else []) if isinstance(value, str) else _texts(value)


def _texts(value: object) -> frozenset[str]:
    if isinstance(value, Iterable) and not isinstance(value, Mapping):
        return frozenset(item for item in value if isinstance(item, str))
    return frozenset()


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
