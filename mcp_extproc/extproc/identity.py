"""The caller of a request, read from what Envoy's filters wrote about it: metadata, and the claims of a token in a header."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final

import msgspec
from google.protobuf import struct_pb2

from mcp_extproc.bounded import MIB, Bounded
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.authentication import Authentication, Existing, External
from mcp_extproc.config.endpoint import endpoints
from mcp_extproc.contract import (
    CERTIFICATE,
    CLAIMS,
    CLAIMS_SOURCE,
    EXTERNAL,
    EXTERNAL_GROUPS,
    EXTERNAL_SCOPES,
    KEY_NAME,
    PRINCIPAL_NAMESPACE,
    SERVICE_NAMESPACE,
    SPACE_DELIMITED,
    TOKENS_NAMESPACE,
)
from mcp_extproc.extproc import messages
from mcp_extproc.gateway.principal import (
    ANONYMOUS,
    BY_CERTIFICATE,
    BY_KEY,
    BY_TOKEN,
    Principal,
    groups_of,
    of_claims,
    scopes_of,
)

_KEYS: Final = "api_keys"
_MTLS: Final = "mtls"
_EXTERNAL: Final = "external"
"""Who vouches for these: no issuer of tokens is called so, as they are URLs."""

_BEFORE_TOKENS: Final = (BY_KEY, "existing")
"""What counts before a token, where both are proven."""

MAX_KNOWN: Final = 4096
"""Callers of a worker, by what Envoy says of them."""
_MAX_KNOWN_BYTES = 8 * MIB

_SHORT: Final = 128
"""Bytes of metadata that hold a few entries, which are mostly the same: to read them takes longer than to find them."""


class Identification:
    """Says who sent a request.

    Args:
        config: the methods by which Envoy authenticates.
    """

    def __init__(self, config: GatewayConfig) -> None:
        kinds: list[_Methods] = []
        self._methods: dict[str, _Methods] = {}
        for endpoint in endpoints(config):
            methods = _Methods(endpoint.authentication, endpoint.existing)
            same = next((known for known in kinds if known.is_like(methods)), None)
            if same is None:
                kinds.append(methods)
            self._methods[endpoint.name] = same or methods
        self.reads = any(methods.are_there for methods in kinds)
        """Whether there is anything to look for."""
        self._known: Bounded[bytes, _Verified] = Bounded(MAX_KNOWN, _MAX_KNOWN_BYTES)
        self._known_tokens: Bounded[str, _Claims] = Bounded(MAX_KNOWN, _MAX_KNOWN_BYTES)

    def of(self, raw: bytes, endpoint: str | None) -> Proof:
        """What filters wrote about a request, as an endpoint believes it: by its own methods. The same value for the same
        content.

        Args:
            raw: what they wrote.
            endpoint: its name; ``None`` for none, which believes nothing.

        Raises:
            Unreadable: it is no metadata.
        """
        methods = self._methods.get(endpoint) if endpoint is not None else None
        if not raw or methods is None or not methods.are_there:
            return NOBODY
        verified = self._known.get(raw)
        if verified is None:
            metadata = messages.read_metadata(raw)
            ordered = metadata.SerializeToString(deterministic=True)
            verified = self._known.get(ordered)
            if verified is None:
                verified = _Verified(metadata.filter_metadata)
                self._known.keep(ordered, verified, 1024 + 4 * len(ordered))
            # Of longer metadata there are many orders.
            if len(raw) <= _SHORT and raw != ordered:
                self._known.keep(raw, verified, 1024 + 4 * len(raw))
        return verified.by(methods)

    def with_claims(self, principal: Principal, claims: str, endpoint: str | None) -> Principal:
        """The same where a token is proven, too. The same value for the same content.

        Args:
            principal: who it is by what else was proven.
            claims: what the filter for tokens wrote (:data:`mcp_extproc.contract.CLAIMS_HEADER`).
            endpoint: as in :meth:`of`.

        Raises:
            Unreadable: they are none.
        """
        methods = self._methods.get(endpoint) if endpoint is not None else None
        if methods is None or principal.proven in _BEFORE_TOKENS:
            return principal
        known = self._known_tokens.get(claims)
        if known is None:
            known = _Claims(claims)
            self._known_tokens.keep(claims, known, 1024 + 4 * len(claims))
        found = known.by(methods)
        return principal if found == ANONYMOUS else found


class Proof:
    """What metadata proves of who sent a request."""

    __slots__ = ("principal", "trusts_claims")

    def __init__(self, principal: Principal, *, trusts_claims: bool) -> None:
        self.principal = principal
        """Who sent it, as far as no claims in a header say it."""
        self.trusts_claims = trusts_claims
        """Whether only Envoy's filter can have written that header: otherwise it is a client's, and says nothing."""


NOBODY: Final = Proof(ANONYMOUS, trusts_claims=False)


class _Verified:
    """What filters wrote about a request, and who it is by the methods that were asked so far."""

    __slots__ = ("_found", "_metadata")

    def __init__(self, metadata: Any) -> None:
        self._metadata = metadata
        self._found: dict[_Methods, Proof] = {}

    def by(self, methods: _Methods) -> Proof:
        proof = self._found.get(methods)
        if proof is None:
            trusts_claims = _at(self._metadata, (PRINCIPAL_NAMESPACE, CLAIMS_SOURCE)) is not None
            proof = self._found[methods] = Proof(methods.read(self._metadata), trusts_claims=trusts_claims)
        return proof


class _Claims:
    """The claims of a token, and who it is by the methods that were asked so far."""

    __slots__ = ("_claims", "_found")

    def __init__(self, text: str) -> None:
        self._claims = _decoded(text)
        self._found: dict[_Methods, Principal] = {}

    def by(self, methods: _Methods) -> Principal:
        principal = self._found.get(methods)
        if principal is None:
            principal = self._found[methods] = methods.of_token(self._claims)
        return principal


def _decoded(text: str) -> dict[str, Any]:
    """Claims in base64url without padding (RFC 7515 section 2), as Envoy's filter has them in metadata.

    Raises:
        Unreadable: they are none.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        claims = _JSON.decode(raw)
        json.loads(raw, object_pairs_hook=_check_unique)
        told = {name: _in_metadata(value) for name, value in claims.items()}
    except (binascii.Error, ValueError, OverflowError, RecursionError):
        raise messages.Unreadable("no claims") from None
    for name in SPACE_DELIMITED:
        if isinstance(value := told.get(name), str):
            told[name] = [item for item in value.split(" ") if item]
    return told


def _check_unique(members: list[tuple[str, object]]) -> None:
    """What is there twice may be one thing to one reader, and another one to the next. Envoy 1.40 takes it for no token.

    Raises:
        ValueError: something is.
    """
    if len({name for name, _ in members}) != len(members):
        raise ValueError("a name is there twice")


_JSON: Final = msgspec.json.Decoder(dict[str, Any])


def _in_metadata(value: Any) -> Any:
    """A value as it is in metadata, where numbers are doubles: rules, and policies of Envoy's, are about the same values."""
    match value:
        case dict():
            return {name: _in_metadata(item) for name, item in value.items()}
        case list():
            return [_in_metadata(item) for item in value]
        case bool():
            return value
        case int():
            return float(value)
        case _:
            return value


class _Methods:
    """By which endpoints are told who calls."""

    def __init__(self, authentication: Authentication | None, existing: Existing | None) -> None:
        self._authentication, self._existing = authentication, existing
        self._mtls = authentication.mtls if authentication is not None else None
        self._external = authentication.external if authentication is not None else None
        self._has_keys = authentication is not None and authentication.api_keys is not None
        self._oauth = authentication.oauth if authentication is not None else None
        methods = (self._oauth, self._external, self._mtls, existing)
        self.are_there = self._has_keys or any(method is not None for method in methods)
        """Whether there are any."""
        self._issuers = {one.issuer for one in self._oauth.issuers} if self._oauth is not None else set()

    def is_like(self, other: _Methods) -> bool:
        """Whether both are the same."""
        return (self._authentication, self._existing) == (other._authentication, other._existing)

    def read(self, metadata: Any) -> Principal:
        """Where several are proven, a key counts before a token, that before what a service says, and a certificate last."""
        if self._existing is not None:
            return _existing(metadata, self._existing)
        ways = (self._by_key, self._by_token, self._by_service, self._by_certificate)
        return next((one for way in ways if (one := way(metadata)) != ANONYMOUS), ANONYMOUS)

    def _by_key(self, metadata: Any) -> Principal:
        name = _at(metadata, (PRINCIPAL_NAMESPACE, KEY_NAME)) if self._has_keys else None
        return Principal(BY_KEY, _KEYS, name) if isinstance(name, str) and name else ANONYMOUS

    def _by_service(self, metadata: Any) -> Principal:
        return ANONYMOUS if self._external is None else _external(metadata, self._external)

    def _by_certificate(self, metadata: Any) -> Principal:
        name = _at(metadata, (PRINCIPAL_NAMESPACE, CERTIFICATE)) if self._mtls is not None else None
        if self._mtls is None or not isinstance(name, str) or name in ("", "-"):
            return ANONYMOUS
        # Several names are joined by commas.
        several = "," in name and self._mtls.principal != "subject"
        return ANONYMOUS if several else Principal(BY_CERTIFICATE, _MTLS, name)

    def _by_token(self, metadata: Any) -> Principal:
        # A listener of an earlier release puts them there.
        return self.of_token(_at(metadata, (TOKENS_NAMESPACE, CLAIMS)) if self._oauth is not None else None)

    def of_token(self, claims: object) -> Principal:
        """Whose token has these claims, which Envoy has verified."""
        # A listener that is being replaced may still know an issuer that was taken out.
        if self._oauth is None or not isinstance(claims, dict) or claims.get("iss") not in self._issuers:
            return ANONYMOUS
        return of_claims(BY_TOKEN, claims, self._oauth.principal_claim, self._oauth.groups_claim)


def _external(metadata: Any, where: External) -> Principal:
    if where.principal_metadata:
        name, groups, scopes = (
            _at(metadata, (SERVICE_NAMESPACE, *keys)) if keys else None
            for keys in (where.principal_metadata, where.groups_metadata, where.scopes_metadata)
        )
        claims = _at(metadata, (SERVICE_NAMESPACE,))
    else:
        name, groups, scopes = (
            _at(metadata, (PRINCIPAL_NAMESPACE, key)) for key in (EXTERNAL, EXTERNAL_GROUPS, EXTERNAL_SCOPES)
        )
        claims = {}
    if not isinstance(name, str) or not name:
        return ANONYMOUS
    # Over gRPC a text in metadata is one group: a header is a list.
    in_header = where.grpc is None or not where.principal_metadata
    found = _listed(groups) if in_header else groups_of(groups)
    return Principal(_EXTERNAL, _EXTERNAL, name, scopes_of(scopes), found, claims=claims)


def _listed(groups: object) -> frozenset[str]:
    """Groups in a header."""
    return frozenset(group.strip() for group in groups.split(",")) - {""} if isinstance(groups, str) else frozenset()


def _existing(metadata: Any, where: Existing) -> Principal:
    subject = _at(metadata, where.subject)
    if not isinstance(subject, str) or not subject:
        return ANONYMOUS
    issuer = _at(metadata, where.issuer)
    claims = _at(metadata, where.claims)
    return Principal(
        "existing",
        issuer if isinstance(issuer, str) else "",
        subject,
        scopes_of(_at(metadata, where.scopes)),
        groups_of(_at(metadata, where.groups)),
        claims=claims if isinstance(claims, dict) else {},
    )


def _at(metadata: Any, path: tuple[str, ...]) -> Any:
    """The value at a path: a namespace, then keys; ``None`` where there is none."""
    if not path or path[0] not in metadata:
        return None
    # Only what is asked for becomes plain data: a namespace may hold much, and most of a request's time here is this.
    struct: struct_pb2.Struct = metadata[path[0]]
    for index, key in enumerate(path[1:], start=2):
        if key not in struct.fields:
            return None
        value = struct.fields[key]
        if index == len(path):
            return _plain(value)
        if value.WhichOneof("kind") != "struct_value":
            return None
        struct = value.struct_value
    return _plain_struct(struct)


def _plain_struct(struct: struct_pb2.Struct) -> dict[str, Any]:
    return {name: _plain(value) for name, value in struct.fields.items()}


def _plain(value: struct_pb2.Value) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            return _plain_struct(value.struct_value)
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case None | "null_value":
            return None
        case kind:
            return getattr(value, kind)
