"""Who may call: the methods by which Envoy authenticates clients."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal
from urllib.parse import SplitResult, urlsplit, urlunsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from mcp_extproc.config.base import Model
from mcp_extproc.config.client_keys import key_problems
from mcp_extproc.config.config_error import PlacedError
from mcp_extproc.config.jwks import Algorithm, usable_keys
from mcp_extproc.config.values import Seconds, is_header_name
from mcp_extproc.contract import KEY_HEADER

_URL_CHARACTERS = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")
_LONGEST_URL = 2048
# RFC 1035 section 2.3.4, without the bound on all labels together; or an IPv6 address.
_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?|[0-9a-f:.]*:[0-9a-f:.]*")
# RFC 6749 section 3.3.
SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")

_DEFAULT_REFRESH: Final = 300.0


def _split(value: str) -> SplitResult:
    """The parts of a URL with a host.

    Raises:
        ValueError: it is none.
    """
    try:
        parts = urlsplit(value)
        _ = parts.port  # up to 65535
    except ValueError:
        parts = urlsplit("")
    if (
        parts.scheme not in ("http", "https")
        or not _HOST.fullmatch(parts.hostname or "")
        or not _URL_CHARACTERS.fullmatch(value)
    ):
        raise ValueError("expected a URL such as https://idp.example.com")
    if len(value) > _LONGEST_URL:
        raise ValueError(f"expected a URL of at most {_LONGEST_URL} characters")
    if parts.username is not None or parts.password is not None or "#" in value:
        raise ValueError("expected a URL without user and fragment")
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _url(value: str) -> str:
    _split(value)
    return value


_OWN_PORT: Final = {"http": ":80", "https": ":443"}


def _canonical_url(value: str) -> str:
    """As clients write it, whatever they were given: what they ask a token for is compared character by character (MCP
    2025-11-25 basic/authorization, Canonical Server URI; RFC 3986 section 6.2)."""
    parts = _split(value)
    return urlunsplit(parts._replace(netloc=parts.netloc.lower().removesuffix(_OWN_PORT[parts.scheme])))


def _safe_url(value: str) -> str:
    """One that keys may come from: whoever can change them can be anybody."""
    parts = _split(value)
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise ValueError("expected an https URL; http is for loopback addresses only")
    return value


Url = Annotated[str, AfterValidator(_url)]
CanonicalUrl = Annotated[str, AfterValidator(_canonical_url)]
SafeUrl = Annotated[str, AfterValidator(_safe_url)]


def safe_url(value: object, issuer: str) -> str:
    """A URL that keys may come from, as an authorization server names it.

    Raises:
        ValueError: it is none: https, or http on a loopback address for an issuer that is at one.
    """
    if not isinstance(value, str):
        raise ValueError("expected a URL")
    if _split(value).scheme == "http" != urlsplit(issuer).scheme:
        # Whoever listens here could sign for the issuer, and the issuer would choose what we ask here.
        raise ValueError("expected an https URL")
    return _safe_url(value)


class Jwks(Model):
    """The keys that an issuer signs tokens with, as a JSON Web Key Set. Either `uri`, `file` or `inline`."""

    uri: SafeUrl | None = None
    """URL of the key set, https, or http on a loopback address."""

    file: str | None = Field(default=None, min_length=1)
    """File with the key set. `run` reads it again when it changes. A relative path starts in the directory that the gateway is
    started in."""

    inline: str | None = Field(default=None, min_length=1)
    """The key set itself, JSON text."""

    refresh: Seconds = Field(default=_DEFAULT_REFRESH, ge=1)
    """With `uri`: how often it is fetched. While that fails, the keys before stay, and it is tried at least every 10 s."""

    @model_validator(mode="after")
    def _one(self) -> Jwks:
        if sum(value is not None for value in (self.uri, self.file, self.inline)) != 1:
            raise ValueError("give either uri, file or inline")
        if self.uri is None and "refresh" in self.model_fields_set:
            raise PlacedError(("refresh",), "requires uri")
        return self


class Issuer(Model):
    """An authorization server whose tokens are accepted."""

    issuer: SafeUrl
    """Its issuer identifier, exactly as in the claim `iss` of its tokens."""

    audiences: tuple[str, ...] = ()
    """What the claim `aud` of a token has to name, one of these. Default: `resource`."""

    jwks: Jwks | None = None
    """Its keys. Default: `run` finds them through its metadata (RFC 8414, or OpenID Connect Discovery), and fetches them again
    every 5 minutes. Envoys that are configured separately find none: see [Keys](authentication.md#keys)."""

    @field_validator("issuer")
    @classmethod
    def _identifier(cls, value: str) -> str:
        if "?" in value:
            raise ValueError("expected an issuer identifier, a URL without query (RFC 8414 section 2)")
        if "/.well-known/" in value:
            raise ValueError(
                "expected an issuer identifier, what stands in the claim `iss`: this is the URL of its metadata"
            )
        return value

    @field_validator("audiences")
    @classmethod
    def _audiences(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "" in value:
            raise ValueError("expected text that is not empty")
        return value

    @property
    def refresh(self) -> float:
        """Seconds after which its keys are fetched again."""
        return _DEFAULT_REFRESH if self.jwks is None else self.jwks.refresh


class OAuth(Model):
    """OAuth 2.1 resource server (MCP, Authorization): clients bring an access token, a JWT of one of the `issuers`. Envoy
    verifies signature, `iss`, `aud`, `exp` and `nbf` of each; a token without `exp` is refused."""

    issuers: tuple[Issuer, ...] = Field(min_length=1)
    """The authorization servers. Clients are told of all. `/.well-known/oauth-authorization-server`, for clients of
    2025-03-26, has the first one's metadata."""

    resource: CanonicalUrl | None = None
    """The endpoint's URL as clients know it, their `resource` (RFC 8707), which they write with a host in lower case and
    without the port of its scheme. Default: `public_url` with the endpoint's path, or
    else the URL that the client used."""

    scopes_supported: tuple[str, ...] = ()
    """Scopes that clients may ask for. The metadata and the 401 challenge name them; they are not required of a token."""

    challenge_scopes: tuple[str, ...] | None = None
    """Scopes that the 401 challenge names instead, which is what clients ask for when they log in. Name the few that are
    enough to begin with, where [`step_up`](#authorization) asks for the others once they are needed.
    Default: `scopes_supported`."""

    resource_name: str | None = Field(default=None, min_length=1)
    """Name of this resource for people, in its metadata."""

    resource_documentation: Url | None = None
    """URL of its documentation for developers, in its metadata."""

    resource_policy_uri: Url | None = None
    """URL that says how clients may use its data, in its metadata."""

    resource_tos_uri: Url | None = None
    """URL of its terms of service, in its metadata."""

    algorithms: tuple[Algorithm, ...] = Field(default=("RS256", "ES256", "EdDSA"), min_length=1)
    """Signature algorithms that are accepted."""

    clock_skew: Seconds = Field(default=60.0, ge=1, le=3600)
    """How far the clocks of issuers and Envoy may differ, in whole seconds: a token is accepted for so long after `exp` and
    before `nbf`."""

    max_lifetime: Seconds | None = Field(default=None, ge=1)
    """Maximum lifetime of a token, in whole seconds: one whose `exp` is further away is refused. Envoy remembers verified
    tokens, so a token of a withdrawn key is accepted until its `exp`. Default: no maximum."""

    principal_claim: str = Field(default="sub", min_length=1)
    """Claim that says who the caller is, text that is not empty. A token without it is refused."""

    groups_claim: str = Field(default="groups", min_length=1)
    """Claim with the caller's groups or roles, a list or a text. Dots lead into objects, such as `realm_access.roles`."""

    @property
    def challenged(self) -> tuple[str, ...]:
        """Scopes that the 401 challenge names."""
        return self.scopes_supported if self.challenge_scopes is None else self.challenge_scopes

    @field_validator("scopes_supported", "challenge_scopes")
    @classmethod
    def _scopes(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if not all(SCOPE.fullmatch(scope) for scope in value or ()):
            raise ValueError("expected scopes: visible ASCII characters without quotes, backslashes and spaces")
        return value

    @model_validator(mode="after")
    def _distinct(self) -> OAuth:
        if len({one.issuer for one in self.issuers}) != len(self.issuers):
            raise PlacedError(("issuers",), "an issuer is listed twice: give it all its audiences")
        if len(set(self.algorithms)) != len(self.algorithms):
            raise PlacedError(("algorithms",), "an algorithm is listed twice")
        for index, one in enumerate(self.issuers):
            if one.jwks is not None and one.jwks.inline is not None:
                try:
                    usable_keys(one.jwks.inline, self.algorithms)
                except ValueError as error:
                    raise PlacedError(("issuers", index, "jwks", "inline"), str(error)) from None
        return self


"""RFC 9110 section 5.6.2."""
_PARAMETER = re.compile(r"[A-Za-z0-9._~-]+")


class KeySource(Model):
    """Where clients send a key: either in a `header`, in a parameter of the `query`, or in a `cookie`."""

    header: str | None = None
    """Name of a header, such as `x-api-key`. In `Authorization` the key follows `Bearer`."""

    query: str | None = None
    """Name of a parameter of the query. Envoy takes it out before anything is logged; a proxy in front of Envoy may log it."""

    cookie: str | None = None
    """Name of a cookie."""

    @field_validator("header")
    @classmethod
    def _header(cls, value: str | None) -> str | None:
        return None if value is None else _free_header(value, "x-api-key")

    @field_validator("query", "cookie")
    @classmethod
    def _parameter(cls, value: str | None) -> str | None:
        if value is not None and not _PARAMETER.fullmatch(value):
            raise ValueError("expected a name of letters, digits and ._~-")
        return value

    @model_validator(mode="after")
    def _one(self) -> KeySource:
        if sum(value is not None for value in (self.header, self.query, self.cookie)) != 1:
            raise ValueError("give either header, query or cookie")
        return self


_NOT_FOR_KEYS: Final = frozenset({
    "accept", "connection", "content-length", "content-type", "cookie", "host", "last-event-id", "mcp-protocol-version",
    "mcp-session-id", "origin", "te", "transfer-encoding", "upgrade",
})  # fmt: skip


def _free_header(value: str, example: str) -> str:
    name = value.lower()
    if not is_header_name(name) or name.startswith("x-mcp-") or name in _NOT_FOR_KEYS:
        raise ValueError(f"expected the name of a header that is not used otherwise, such as {example}")
    return name


def _key_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


ApiKeyValues = Annotated[
    tuple[SecretStr, ...],
    BeforeValidator(_key_list),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]


class ApiKeys(Model):
    """API keys of clients, by names. The name of the key is who the caller is. Either `file` or `keys`."""

    keys: Mapping[str, ApiKeyValues] | None = Field(default=None, repr=False)
    """The keys themselves: a name with a key, or a list of keys, as in `file`. They change with the configuration."""

    file: str | None = Field(default=None, min_length=1)
    """YAML or JSON file with a name and a key, or a list of keys, on each line, such as `alice: KEY`. It is read again when it
    changes: `run` and `serve --envoy-config` tell Envoy of new keys without a restart of anything. A key has 16 to 512
    characters. A relative path starts in the directory that the gateway is started in."""

    sources: tuple[KeySource, ...] = Field(default=(KeySource(header="x-api-key"),), min_length=1, alias="from")
    """Where clients send a key. The first one that is there counts; a header that is there twice is refused. Default: the
    header `x-api-key`."""

    @model_validator(mode="after")
    def _distinct(self) -> ApiKeys:
        if (self.file is None) == (self.keys is None):
            raise ValueError("give either file or keys")
        if self.keys is not None and (problem := next(key_problems(self.inline_keys), None)) is not None:
            raise PlacedError(("keys",), problem)
        if len(set(self.sources)) != len(self.sources):
            raise PlacedError(("from",), "a source is listed twice")
        return self

    @property
    def inline_keys(self) -> Mapping[str, tuple[str, ...]]:
        """Those of :attr:`keys`."""
        return {name: tuple(key.get_secret_value() for key in keys) for name, keys in (self.keys or {}).items()}

    @property
    def headers(self) -> frozenset[str]:
        """The headers that a key may be in, as the gateway reads it."""
        return frozenset(source.header or KEY_HEADER for source in self.sources if source.cookie is None)

    @property
    def takes_authorization(self) -> bool:
        """Whether a key may be in ``Authorization``."""
        return any(source.header == "authorization" for source in self.sources)


class Mtls(Model):
    """Client certificates (mutual TLS). A certificate of another authority ends the handshake; clients without one need
    another method. Requires `listen.tls`, or `envoy attach` to a listener whose TLS verifies them with the same file."""

    ca: str = Field(min_length=1)
    """File of PEM CA certificates: the authorities of clients' certificates."""

    principal: Literal["san_uri", "san_dns", "san_email", "subject"] = "san_uri"
    """What of a certificate says who the caller is: its subject alternative name of a kind, of which it must have exactly one,
    without a comma; or its subject (RFC 2253)."""


def _service_address(value: str) -> str:
    """``host:port``, or an https URL without a path."""
    parts = _split(value if "://" in value else f"http://{value}")
    if (parts.scheme == "http") != ("://" not in value) or parts.port is None or parts.path or parts.query:
        raise ValueError("expected an address such as authz:9000, or https://authz:9000 for TLS")
    return value


def _service_url(value: str) -> str:
    if _split(value).query:
        raise ValueError("expected a URL without query, such as http://authz:8080/check")
    return value


_MAX_IDENTITY_HEADER: Final = 40
_MAX_IDENTITY_HEADERS: Final = 80
"""Characters of one, and of all together: Envoy bounds the size of regular expressions."""


def _identity_header(value: str) -> str:
    name = _free_header(value, "x-user")
    if name == "authorization":
        raise ValueError("Authorization is what clients send: expected another header, such as x-user")
    if len(name) > _MAX_IDENTITY_HEADER:
        raise ValueError(f"expected up to {_MAX_IDENTITY_HEADER} characters")
    return name


IdentityHeader = Annotated[str, AfterValidator(_identity_header)]


def _metadata_keys(value: tuple[str, ...]) -> tuple[str, ...]:
    if "" in value:
        raise ValueError("expected keys that are not empty")
    return value


MetadataKeys = Annotated[tuple[str, ...], AfterValidator(_metadata_keys)]
"""Keys that lead to a value in what a service says over gRPC; over HTTP, one header of its answer."""


class External(Model):
    """A service of yours that says who calls (Envoy's ext_authz), by either `grpc` or `http`. It answers 200 (gRPC: OK) and
    names the caller in `principal_header` or `principal_metadata`. With any other answer, or without a name, the request is
    refused, and nothing of the service's answer but its status reaches the client."""

    grpc: Annotated[str, AfterValidator(_service_address)] | None = None
    """Address of a gRPC service (`envoy.service.auth.v3.Authorization`), such as `authz:9000`, or `https://authz:9000` with
    TLS."""

    http: Annotated[str, AfterValidator(_service_url)] | None = None
    """URL of an HTTP service. It is asked with the request's method and headers, and the request's path behind the URL's."""

    ca: str | None = Field(default=None, min_length=1)
    """File of PEM CA certificates: the authorities of the service's certificate, where its address begins with `https://`.
    Default: the system's. A relative path starts in the directory that the gateway is started in."""

    timeout: Seconds = Field(default=2.0, ge=0.01, le=60)
    """How long a request waits for the service. Without an answer it gets 503."""

    sources: tuple[KeySource, ...] = Field(default=(KeySource(header="authorization"),), min_length=1, alias="from")
    """Headers and cookies by which a request is one for this method. Default: `Authorization`, which is for `oauth` where its
    scheme is `Bearer`. If this is the only method, and `anonymous` is not there, the service is asked about every request."""

    request_headers: tuple[str, ...] = ()
    """Headers that the service gets besides those in `from` and `Authorization`."""

    principal_header: IdentityHeader | None = None
    """Header in which the service says who the caller is. What clients send under this name is removed."""

    groups_header: IdentityHeader | None = None
    """Header in which the service says the caller's groups, separated by commas. What clients send is removed."""

    scopes_header: IdentityHeader | None = None
    """Header in which the service says the caller's scopes, separated by spaces. What clients send is removed."""

    principal_metadata: MetadataKeys = ()
    """Instead of `principal_header`: where the caller is in metadata, which are never in the request. With `grpc`, keys that
    lead to a text in the service's `dynamic_metadata`; with `http`, one header of its answer, such as `[x-user]`."""

    groups_metadata: MetadataKeys = ()
    """With `principal_metadata`: where the caller's groups are. With `grpc` a list or a text, with `http` a header with groups
    that are separated by commas."""

    scopes_metadata: MetadataKeys = ()
    """With `principal_metadata`: where the caller's scopes are, text with spaces or, with `grpc`, a list."""

    challenge: str = Field(default="External", pattern=r"^[!-~]([ -~]{0,1022}[!-~])?$")
    """`WWW-Authenticate` of 401 answers, such as `Basic realm="tools"`. With `oauth` it is the one for access tokens."""

    @field_validator("request_headers")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(is_header_name, value)):
            raise ValueError("expected names of headers")
        return tuple(name.lower() for name in value)

    @model_validator(mode="after")
    def _complete(self) -> External:
        if (self.grpc is None) == (self.http is None):
            raise ValueError("give either grpc or http")
        if (self.principal_header is None) != bool(self.principal_metadata):
            raise ValueError("give either principal_header or principal_metadata")
        for kind in ("groups", "scopes"):
            for where in ("header", "metadata"):
                if getattr(self, f"{kind}_{where}") and not getattr(self, f"principal_{where}"):
                    raise PlacedError((f"{kind}_{where}",), f"requires principal_{where}")
        if self.ca is not None and not (self.grpc or self.http or "").startswith("https://"):
            raise PlacedError(("ca",), "requires an address that begins with https://")
        self._check_answer_headers()
        for index, source in enumerate(self.sources):
            if source.query is not None:
                raise PlacedError(("from", index), "expected header or cookie: logs have the query")
        return self._distinct()

    @property
    def takes_authorization(self) -> bool:
        """Whether it is asked about ``Authorization``."""
        return any(source.header == "authorization" for source in self.sources)

    @property
    def headers(self) -> dict[str, str]:
        """The headers in which it says something, by the field that names them."""
        named = {name: getattr(self, name) for name in ("principal_header", "groups_header", "scopes_header")}
        return {name: header for name, header in named.items() if header is not None}

    @property
    def metadata(self) -> dict[str, tuple[str, ...]]:
        """Where in metadata it says something, by the field."""
        named = ("principal_metadata", "groups_metadata", "scopes_metadata")
        return {name: getattr(self, name) for name in named if getattr(self, name)}

    def _check_answer_headers(self) -> None:
        """What an HTTP service says is in headers, which are flat."""
        if self.http is None:
            return
        for name, keys in self.metadata.items():
            if len(keys) != 1 or not is_header_name(keys[0]) or keys[0] != keys[0].lower():
                raise PlacedError(
                    (name,), "with http, expected one header of its answer in lower case, such as [x-user]"
                )

    def _distinct(self) -> External:
        if len(set(self.sources)) != len(self.sources):
            raise PlacedError(("from",), "a source is listed twice")
        taken = {*self.request_headers, *(source.header for source in self.sources)}
        for name, header in self.headers.items():
            if header in taken:
                raise PlacedError((name,), "this header is listed twice, or clients send it to the service")
            taken.add(header)
        if sum(map(len, self.headers.values())) > _MAX_IDENTITY_HEADERS:
            last = list(self.headers)[-1]
            raise PlacedError((last,), f"all three have up to {_MAX_IDENTITY_HEADERS} characters together: shorten one")
        return self


def _path(value: tuple[str, ...]) -> tuple[str, ...]:
    if value and (len(value) < 2 or "" in value):
        raise ValueError(
            "expected a namespace and at least one key, such as [envoy.filters.http.jwt_authn, payload, sub]"
        )
    return value


MetadataPath = Annotated[tuple[str, ...], AfterValidator(_path)]
"""A namespace of Envoy's dynamic metadata, and the keys that lead to a value in it."""


class Existing(Model):
    """What filters of your own verified about the caller: those of a listener that the gateway is attached to, or in
    `envoy.http_filters_before`. Paths in Envoy's dynamic metadata, which clients can't write: the namespace, then keys."""

    subject: MetadataPath = Field(min_length=2)
    """Who the caller is, text, such as `[envoy.filters.http.jwt_authn, payload, sub]`."""

    issuer: MetadataPath = ()
    """Who vouches for it, text. Needed where two may name the same subject. Default: nobody."""

    scopes: MetadataPath = ()
    """Its scopes, text with spaces or a list. Default: none."""

    groups: MetadataPath = ()
    """Its groups, a list or a text. Default: none."""

    claims: MetadataPath = ()
    """What else is known of it, an object. Default: nothing."""

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Those of all paths."""
        paths = (self.subject, self.issuer, self.scopes, self.groups, self.claims)
        return tuple(dict.fromkeys(path[0] for path in paths if path))


class Authentication(Model):
    """Who may call. Envoy refuses all others with 401 before the gateway sees their requests. Without this section everybody
    may call."""

    anonymous: bool = False
    """Whether clients without credentials may call, too. Credentials that are wrong are refused all the same."""

    public_url: CanonicalUrl | None = None
    """Scheme and host by which clients reach the gateway, such as `https://gateway.example.com`, for URLs in answers. Default:
    those that the client used."""

    oauth: OAuth | None = None
    """Access tokens (OAuth 2.1)."""

    api_keys: ApiKeys | None = None
    """API keys."""

    mtls: Mtls | None = None
    """Client certificates."""

    external: External | None = None
    """A service of yours that says who calls."""

    existing: Existing | None = None
    """Filters of your own have authenticated the caller."""

    @field_validator("public_url")
    @classmethod
    def _base(cls, value: str | None) -> str | None:
        if value is not None and (urlsplit(value).path.strip("/") or "?" in value):
            raise ValueError("expected scheme and host only, such as https://gateway.example.com")
        return None if value is None else value.rstrip("/")

    @model_validator(mode="after")
    def _complete(self) -> Authentication:
        ours = [name for name in ("oauth", "api_keys", "mtls", "external") if getattr(self, name) is not None]
        if not ours and self.existing is None:
            raise ValueError("name a method: oauth, api_keys, mtls, external or existing")
        if ours and self.existing is not None:
            raise PlacedError(
                ("existing",), f"it is not clear who a caller is with {ours[0]}, too: leave one of them out"
            )
        if self.oauth is not None and self.api_keys is not None and self.api_keys.takes_authorization:
            raise PlacedError(("api_keys", "from"), "with oauth, Authorization has access tokens: use another header")
        self._check_sources()
        for index, one in enumerate(self.oauth.issuers if self.oauth is not None else ()):
            if not one.audiences and self.public_url is None and (self.oauth is None or self.oauth.resource is None):
                raise PlacedError(
                    ("oauth", "issuers", index, "audiences"),
                    "give audiences or oauth.resource: a token has to be for this gateway",
                )
        return self

    def _check_sources(self) -> None:
        if self.external is None or self.api_keys is None:
            return
        sources = set(self.api_keys.sources)
        if sources & set(self.external.sources):
            raise PlacedError(("external", "from"), "a source of api_keys, too: which of both is it for?")
        sent = {source.header for source in sources}
        for name, header in self.external.headers.items():
            if header in sent:
                raise PlacedError(("external", name), "clients send API keys in this header: use another one")

    @property
    def is_single(self) -> bool:
        """Whether one method has to prove each caller whose filter refuses all others by itself."""
        others = self.mtls is not None or self.external is not None
        return not self.anonymous and not others and (self.oauth is None or self.api_keys is None)

    @property
    def asks_always(self) -> bool:
        """Whether nobody but the service of :attr:`external` can say who calls."""
        return not self.anonymous and self.oauth is None and self.api_keys is None and self.mtls is None

    def warnings(self) -> Iterator[str]:
        """A sentence for each thing that is decided without being written, which begins with its place in this section."""
        for index, one in enumerate(self.oauth.issuers if self.oauth is not None else ()):
            if not one.audiences:
                where = "oauth.resource" if self.oauth is not None and self.oauth.resource is not None else "public_url"
                yield (
                    f"oauth.issuers[{index}] has no audiences: tokens have to be for the resource"
                    f" ({where}), exactly as it is written"
                )
