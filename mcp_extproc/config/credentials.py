"""What a server is sent besides the call itself, so that it knows for whom it works: one credential of the gateway's own, and
what it gets of each caller."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import ClassVar, Final, Self

from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator

from mcp_extproc.config.authentication import SCOPE, SafeUrl
from mcp_extproc.config.base import Model
from mcp_extproc.config.config_error import PlacedError
from mcp_extproc.config.values import HeaderName, HeaderValue
from mcp_extproc.contract import SERVERS_HEADERS

# Set by the gateway or by HTTP itself on every upstream request (RFC 9110, MCP basic/transports).
RESERVED_HEADERS: Final = frozenset({
    "accept", "connection", "content-length", "content-type", "expect", "host", "keep-alive", "last-event-id",
    "mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip

PASSED_HEADERS: Final = frozenset({
    "accept-encoding", "accept-language", "baggage", "content-encoding", "traceparent", "tracestate", "user-agent",
    "x-forwarded-proto", "x-request-id",
})  # fmt: skip
"""A server gets them as the client sent them, or Envoy. As the name of a credential a client could write it itself."""

_QUERY_NAME = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_CLAIM = re.compile(r"[!-~]{1,256}")

AUTHORIZATION: Final = "authorization"


def is_gateways(name: str) -> bool:
    """Whether a header is the gateway's own, or Envoy's."""
    lower = name.lower()
    if lower in SERVERS_HEADERS:
        return False
    return lower in RESERVED_HEADERS or lower.startswith(("x-mcp-", "x-envoy-"))


def _of_caller(name: str) -> str:
    if is_gateways(name) or name.lower() in PASSED_HEADERS or name.lower().startswith("mcp-"):
        raise ValueError(
            f"{name} is set by the gateway, or reaches servers anyway: it can't carry what a server relies on"
        )
    return name


class _Secret(Model):
    """A configured credential."""

    value: HeaderValue | None = None
    """The credential. Never printed."""

    file: str | None = Field(default=None, min_length=1)
    """File with the credential, such as a mounted secret; line breaks at its end are left out. Workers read it again when it
    changes. A relative path starts in the directory that the gateway is started in. Either `value` or `file`."""

    @model_validator(mode="after")
    def _one(self) -> _Secret:
        if (self.value is None) == (self.file is None):
            raise ValueError("give either value or file")
        return self


class HeaderCredential(_Secret):
    """A credential in a header."""

    kind: ClassVar[str] = "header"

    name: HeaderName
    """The header, such as `Authorization`."""

    prefix: str = ""
    """Written in front of the credential, such as `"Bearer "`. Default: nothing."""

    @field_validator("name")
    @classmethod
    def _free(cls, value: str) -> str:
        if is_gateways(value):
            raise ValueError(f"{value} is set by the gateway and can't be configured")
        return value

    @field_validator("prefix")
    @classmethod
    def _visible(cls, value: str) -> str:
        if not re.fullmatch(r"(?:[!-~][ -~]{0,63})?", value):
            raise ValueError(
                "expected at most 64 characters of visible ASCII, such as `Bearer ` with a space at its end"
            )
        return value


class QueryCredential(_Secret):
    """A credential in the query of the server's URL."""

    kind: ClassVar[str] = "query"

    name: str
    """The parameter. Not one that the URL has already."""

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not _QUERY_NAME.fullmatch(value):
            raise ValueError("expected a name of 1 to 64 characters out of A-Z a-z 0-9 . _ ~ -")
        return value


class ForwardedHeader(Model):
    """A header of the client that the server gets."""

    name: HeaderName
    """The client's header. `Authorization` goes on only where it is named here."""

    as_: HeaderName | None = Field(default=None, alias="as")
    """The server's name for it. Default: the same."""

    @field_validator("name", "as_")
    @classmethod
    def _free(cls, value: str | None) -> str | None:
        return None if value is None else _of_caller(value)

    @property
    def target(self) -> str:
        """The header that the server gets."""
        return self.as_ or self.name


class ForwardedClaim(Model):
    """A claim of the verified caller that the server gets."""

    claim: str
    """Its name; what is inside of another one by dots, as in `realm_access.roles`. Of a caller without claims, `sub` is who it
    is: the name of an API key, or what a certificate or a service says."""

    header: HeaderName
    """The header that the server gets. It is there only where the caller has the claim, and clients can't write it."""

    @field_validator("claim")
    @classmethod
    def _named(cls, value: str) -> str:
        if not _CLAIM.fullmatch(value):
            raise ValueError("expected the name of a claim, such as sub")
        return value

    @field_validator("header")
    @classmethod
    def _free(cls, value: str) -> str:
        return _of_caller(value)


class _Client(Model):
    """An OAuth client of an authorization server."""

    token_endpoint: SafeUrl
    """URL of the authorization server's token endpoint, https, or http on a loopback address."""

    client_id: str = Field(min_length=1, max_length=256)
    """The client's name there."""

    client_secret: SecretStr | None = None
    """Its secret. Never printed."""

    client_secret_file: str | None = Field(default=None, min_length=1)
    """File with the secret, such as a mounted one; line breaks at its end are left out. It is read again when it changes. A
    relative path starts in the directory that the gateway is started in. Either `client_secret` or `client_secret_file`."""

    scopes: tuple[str, ...] = ()
    """Scopes to ask for. Default: those that the authorization server gives by itself."""

    resource: str | None = Field(default=None, min_length=1, max_length=2048)
    """The server for which the token is to be (RFC 8707), such as its URL. Default: none is named."""

    basic: bool = False
    """Send `client_id` and `client_secret` as HTTP Basic authentication instead of in the body."""

    ca: str | None = Field(default=None, min_length=1)
    """File of PEM CA certificates for an https `token_endpoint`. Default: the system's."""

    _read: SecretStr | None = PrivateAttr(default=None)

    @field_validator("client_secret")
    @classmethod
    def _not_empty(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value():
            raise ValueError("is empty")
        return value

    @field_validator("scopes")
    @classmethod
    def _scopes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(SCOPE.fullmatch(scope) for scope in value):
            raise ValueError("expected scopes, each of visible ASCII without quotes and backslashes")
        return value

    @model_validator(mode="after")
    def _one_secret(self) -> _Client:
        if (self.client_secret is None) == (self.client_secret_file is None):
            raise ValueError("give either client_secret or client_secret_file")
        return self

    @property
    def secret(self) -> str | None:
        """Its secret; ``None`` as long as its file is not there."""
        found = self.client_secret or self._read
        return None if found is None else found.get_secret_value()

    def with_secret(self, text: str) -> Self:
        """A copy with what is in its file."""
        copy = self.model_copy()
        copy._read = SecretStr(text)
        return copy

    @model_validator(mode="after")
    def _ca_of_tls(self) -> _Client:
        if self.ca is not None and not self.token_endpoint.startswith("https:"):
            raise PlacedError(("ca",), "requires a token_endpoint that begins with https://")
        return self


class ClientCredentials(_Client):
    """An access token that Envoy gets for the gateway itself, as an OAuth client (client credentials grant), and sends as
    `Authorization: Bearer`. It gets another one when half of its lifetime is over. Envoy has the `client_secret` from a file
    that only its owner may read."""


class TokenExchange(_Client):
    """An access token for this server, which the gateway gets for the verified one of each caller (RFC 8693) and sends as
    `Authorization: Bearer`. It is kept for this caller and server until shortly before it expires."""

    audience: str | None = Field(default=None, min_length=1, max_length=2048)
    """The server's name at the authorization server, for which the token is to be. Default: none is named."""


_OWN: Final = ("header", "query", "client_credentials", "token_exchange", "pass_through")
"""Keys of which a server has one at most."""


class Credentials(Model):
    """Credentials for a server: at most one of the gateway's own, and what the server gets of each caller."""

    header: HeaderCredential | None = None
    """A credential in a header."""

    query: QueryCredential | None = None
    """A credential in the query."""

    client_credentials: ClientCredentials | None = None
    """A token that Envoy gets for the gateway itself. With `run`, and `serve` with `--envoy-config`."""

    token_exchange: TokenExchange | None = None
    """A token that the gateway gets for each caller's access token, which only callers of [`oauth`](#authenticationoauth)
    have."""

    pass_through: bool = False
    """The client logs in at the server itself: the server gets the client's `Authorization`, and the client the server's 401
    or 403 with its challenge, and its metadata of authorization. For endpoints with this server alone, and without
    `authentication`."""

    forward: tuple[ForwardedHeader, ...] = ()
    """Headers of the client that the server gets, with every request that is made for this client. Callers who send other
    values share nothing: no session with the server, no list, no stream."""

    claims: tuple[ForwardedClaim, ...] = ()
    """Claims of the verified caller that the server gets as headers. Texts, numbers and booleans as text, lists of these with
    commas. A claim that is no visible ASCII, or longer than 4096 characters, is left out. Callers with other values share
    nothing."""

    @model_validator(mode="after")
    def _one_of_a_kind(self) -> Credentials:
        own = [key for key in _OWN if getattr(self, key)]
        if len(own) > 1:
            raise ValueError(f"{' and '.join(own)} are given: keep one of them")
        seen: set[str] = set()
        for path, target in self.targets():
            if target.lower() in seen:
                raise PlacedError(path, f"{target} is set twice (header names ignore case)")
            seen.add(target.lower())
        return self

    def targets(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Headers that the server gets, each with the path of the field that names it."""
        if self.header is not None:
            yield ("header", "name"), self.header.name
        if self.client_credentials is not None:
            yield ("client_credentials",), "Authorization"
        if self.token_exchange is not None:
            yield ("token_exchange",), "Authorization"
        if self.pass_through:
            yield ("pass_through",), "Authorization"
        for index, forwarded in enumerate(self.forward):
            yield ("forward", index), forwarded.target
        for index, claim in enumerate(self.claims):
            yield ("claims", index, "header"), claim.header

    @property
    def own(self) -> HeaderCredential | QueryCredential | None:
        """The gateway's own credential that is sent as it is."""
        return self.header or self.query

    @property
    def clients(self) -> Mapping[str, ClientCredentials | TokenExchange]:
        """The OAuth clients that the gateway is for this server, by their key."""
        found = {"client_credentials": self.client_credentials, "token_exchange": self.token_exchange}
        return {key: one for key, one in found.items() if one is not None}

    @property
    def of_callers(self) -> bool:
        """Whether the server gets something of each caller."""
        return bool(self.forward or self.claims or self.pass_through)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The keys that are used."""
        return tuple(key for key in type(self).model_fields if getattr(self, key))

    def warnings(self) -> Iterator[str]:
        """What is allowed, and may not be wanted: each begins with the path of a field."""
        if self.header is not None and self.header.name.lower() == AUTHORIZATION and self.header.prefix.isalpha():
            yield "header.prefix: the credential follows without a space: put one at its end, as in `Bearer `"
        for index, forwarded in enumerate(self.forward):
            if forwarded.name.lower() == AUTHORIZATION:
                yield (
                    f"forward[{index}]: the server gets the client's Authorization. A token that was issued for this gateway"
                    " should reach no other server, which could use it here (MCP authorization, Token Passthrough): give"
                    " the client another header for the server's token"
                )
