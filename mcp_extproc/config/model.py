"""The configuration as one immutable value: :class:`GatewayConfig`.

Both formats (native YAML, mcp-servers.json) are read into it. ``mcp-extproc schema`` and docs/configuration.md are generated
from the docstrings of its fields.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from mcp_extproc.address import unix_path_problem
from mcp_extproc.config import authentications, policies, virtual_servers
from mcp_extproc.config.authentication import Authentication, Existing
from mcp_extproc.config.authorization import Authorization
from mcp_extproc.config.base import Model
from mcp_extproc.config.config_error import PlacedError
from mcp_extproc.config.credentials import ClientCredentials, Credentials, TokenExchange, is_gateways
from mcp_extproc.config.pass_through import PassThrough
from mcp_extproc.config.patterns import matcher
from mcp_extproc.config.policies import EnvoyConfig, Errors, Metadata, PerFilterConfig, RateLimit, RateLimitService
from mcp_extproc.config.resilience import (
    MAX_COUNT,
    CircuitBreakers,
    Dns,
    HealthCheck,
    Keepalive,
    ListenLimits,
    LoadBalancing,
    OutlierDetection,
    Overload,
    Retries,
)
from mcp_extproc.config.telemetry import Audit, Status, Telemetry
from mcp_extproc.config.tls import ListenTls, UpstreamTls
from mcp_extproc.config.uri_words import scheme_word
from mcp_extproc.config.values import (
    HeaderKey,
    HeaderValue,
    Origin,
    Regex,
    Seconds,
    Size,
    WholeNumber,
    absolute_path,
    freeze,
    host_name,
)
from mcp_extproc.config.vetting import Entries, contradictions
from mcp_extproc.config.virtual_servers import MAX_VIRTUAL_SERVERS, NAME_PATTERN, Behind, VirtualServer
from mcp_extproc.secret_values import is_named_secret, secret_segments, secret_variables

# Clients (Claude Code, Cursor) limit a tool's whole name to 64 characters out of these, so a server's name has to leave
# room; the dot is legal in MCP (2025-11-25 server/tools, Tool Names).
SERVER_NAME_PATTERN = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,46}[A-Za-z0-9])?"
_PREFIX = re.compile(r"[A-Za-z0-9_.-]{0,48}")
_SEPARATOR = re.compile(r"[A-Za-z0-9_./:-]{1,8}")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?):(\d{1,5})")


@lru_cache
def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


class Listen(Model):
    """Where Envoy accepts MCP clients."""

    address: str = "127.0.0.1"
    """IP address to listen on. On a loopback address, only loopback names in `Host` are accepted (DNS rebinding), and
    `allowed_hosts`."""

    port: WholeNumber = Field(default=1975, ge=0, le=65535)
    """TCP port. 0 selects a free one."""

    path: str = "/mcp"
    """Path of the MCP endpoint, matched exactly."""

    allowed_hosts: tuple[str, ...] = ()
    """Further names that `Host` may have, without port: `host.docker.internal` for clients in containers, or the name of a
    tunnel. On an address that is not a loopback one, all names are accepted unless some are listed here."""

    tls: ListenTls | None = None
    """TLS to clients. Without it the listener uses plain HTTP."""

    limits: ListenLimits = ListenLimits()
    """Limits of the listener."""

    @field_validator("address")
    @classmethod
    def _ip(cls, value: str) -> str:
        try:
            return str(ipaddress.ip_address(value.strip("[]")))
        except ValueError:
            raise ValueError("expected an IP address such as 127.0.0.1, 0.0.0.0 or ::1") from None

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: str) -> str:
        return absolute_path(value)

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(host_name, value))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return _is_loopback(self.address)

    @property
    def hosts(self) -> frozenset[str] | None:
        """What ``Host`` may name besides this machine itself; ``None`` for anything."""
        return frozenset(self.allowed_hosts) if self.allowed_hosts or self.is_loopback else None


class Tools(Model):
    """Which of a server's tools are offered. Names are the server's own, without prefix. Exclude takes precedence over
    include."""

    include: tuple[str, ...] = ()
    """Exact names. When `include` or `includeRegex` is given, only tools that match one of them are offered."""

    exclude: tuple[str, ...] = ()
    """Exact names that are never offered."""

    includeRegex: tuple[Regex, ...] = ()  # noqa: N815 - the spelling users know from MCPRoute
    """Regular expressions ([RE2](https://github.com/google/re2/wiki/Syntax), as in Envoy), searched anywhere in the name
    unless anchored."""

    excludeRegex: tuple[Regex, ...] = ()  # noqa: N815
    """Regular expressions ([RE2](https://github.com/google/re2/wiki/Syntax), as in Envoy), searched anywhere in the name
    unless anchored."""

    @model_validator(mode="before")
    @classmethod
    def _no_empty_lists(cls, data: object) -> object:
        # `include: []` could mean "none" or "all".
        if isinstance(data, Mapping):
            for key, value in data.items():
                if value is None or (isinstance(value, list | tuple) and not value):
                    raise ValueError(f"{key} is empty: name at least one tool, or leave the key out")
        return data

    def allowing(self) -> Callable[[str], bool]:
        """A function that says whether the tool of a name is offered."""
        include, exclude = frozenset(self.include), frozenset(self.exclude)
        include_regex = tuple(map(matcher, self.includeRegex))
        exclude_regex = tuple(map(matcher, self.excludeRegex))
        everything = not (include or include_regex)

        def allows(name: str) -> bool:
            if name in exclude or any(matches(name) for matches in exclude_regex):
                return False
            return everything or name in include or any(matches(name) for matches in include_regex)

        return allows


def _authority(value: str) -> str:
    match = _AUTHORITY.fullmatch(value)
    if match is None or not 0 < int(match[2]) < 65536:
        raise ValueError("expected host:port, such as 10.0.0.7:8080 or [::1]:8080")
    return value


Authority = Annotated[str, AfterValidator(_authority)]

_BAD_HOST = "expected a URL with a host and a valid port"


def server_name_problem(name: str) -> str | None:
    """Why a server name is invalid, or None."""
    if re.fullmatch(SERVER_NAME_PATTERN, name):
        return None
    return (
        "the server's name is not usable as a prefix: expected 1 to 48 characters out of A-Z a-z 0-9 _ . -, "
        "beginning and ending with a letter or digit"
    )


ONLY_STDIO: Final = frozenset({
    "env", "env_file", "cwd", "inherit_env", "sharing", "max_processes", "start_timeout"
})  # fmt: skip
"""Keys of a server that is a command."""

ONLY_HTTP: Final = frozenset({
    "path", "unix_socket", "transport", "headers", "credentials", "connect_timeout", "tls", "http2",
    "max_requests_per_connection", "load_balancing", "sticky_sessions", "dns", "health_check", "outlier_detection",
    "retries", "keepalive",
})  # fmt: skip
"""Keys of a server at an address."""

ONLY_SSE: Final = frozenset({"max_sessions"})
"""Keys of a server that speaks HTTP+SSE, or may be found to."""

ONLY_STREAMABLE_HTTP: Final = frozenset({"load_balancing", "sticky_sessions", "retries", "credentials"})
"""Keys of a server that speaks Streamable HTTP. With HTTP+SSE a session is a connection, which nothing can move or repeat, and
whose requests are the bridge's."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")


def variable_problem(name: str) -> str | None:
    """Why this is no name of an environment variable that a child may get, or None. The name is not repeated."""
    if not _VARIABLE.fullmatch(name):
        return "expected names of environment variables: letters, digits and _, beginning with no digit"
    if name.startswith("MCP_EXTPROC_"):
        return "variables that begin with MCP_EXTPROC_ are the gateway's own"
    return None


_ONE_LIST: Final = "program and arguments are one list, such as command: [npx, -y, a-server]"


class Server(Model):
    """One MCP server: at an address (Streamable HTTP, or HTTP+SSE), or a command that is started here (stdio)."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "args": f"{_ONE_LIST}; args is a key of mcp-servers.json",
        "type": "leave it out: with command it is stdio, with transport: sse HTTP+SSE; type is a key of mcp-servers.json",
        "envFile": "here it is env_file; envFile is a key of mcp-servers.json",
    }

    url: str | None = None
    """The server's endpoint, http or https, path and query included. Either `url`, `endpoints` or `command`."""

    endpoints: tuple[Authority, ...] = ()
    """`host:port` of each replica of the server, load-balanced by Envoy. Plain HTTP unless `tls` is given."""

    path: str | None = None
    """Path and query at the `endpoints`. Default: `/mcp`, with `transport: sse` `/sse`. Not allowed with `url`, which has its
    own."""

    unix_socket: str | None = None
    """Absolute path of the Unix socket at which the server listens. The `url` is then what it is asked for: its host is the
    request's `Host`, and nobody looks it up."""

    transport: Literal["streamable_http", "sse", "auto"] = "streamable_http"
    """`sse` is [HTTP+SSE](sse.md), the transport of protocol 2024-11-05: the `url` is that of the event stream. `auto` is what
    an entry of mcp-servers.json without a `type` has: Streamable HTTP, unless `run` finds that the server speaks
    [HTTP+SSE](sse.md#without-a-type)."""

    command: tuple[SecretStr, ...] | None = Field(default=None, min_length=1)
    """Program and arguments of a [stdio server](stdio.md), such as `[npx, -y, "@modelcontextprotocol/server-memory"]`. The
    program is looked for in the child's `PATH`; a relative path with a slash starts at `cwd`. Arguments are never printed."""

    env: Mapping[str, SecretStr | None] = Field(default_factory=dict, validate_default=True)
    """With `command`: environment variables of the child, besides [a few of the gateway's](stdio.md#environment). They win
    over all others; one that is `null` takes a variable away. Their values are never printed."""

    env_file: str | None = Field(default=None, min_length=1)
    """With `command`: file with more variables, `NAME=value` on each line. A relative path starts at the configuration's
    folder. It is read again for each child."""

    cwd: str | None = Field(default=None, min_length=1)
    """With `command`: working directory of the child. A relative path starts at the configuration's folder. Default: that of
    the gateway."""

    inherit_env: tuple[str, ...] = ()
    """With `command`: names of further variables of the gateway that the child gets."""

    sharing: Literal["session", "shared"] = "session"
    """With `command`: `session` starts a child for each session, `shared` one child for all. Only stateless servers may be
    shared: clients see each other's effects. A shared server can't ask clients, and its log messages reach none."""

    max_processes: WholeNumber = Field(default=50, ge=1, le=10_000)
    """With `command`: maximum number of children at a time, over all sessions. Beyond it, a new session gets an error that
    names the server."""

    max_sessions: WholeNumber = Field(default=1000, ge=1, le=100_000)
    """With `transport: sse` or `auto`: maximum number of connections at a time, one for each session. Beyond it, a new session
    gets an error that names the server."""

    start_timeout: Seconds = 120.0
    """With `command`: deadline of a child's answer to `initialize`, downloads by `npx` or `uvx` included. Sessions wait for it
    no longer than `discovery_timeout`: a server that takes longer joins them when it is ready."""

    headers: Mapping[HeaderKey, HeaderValue] = Field(default_factory=dict, validate_default=True)
    """Headers sent to the server with every request, such as credentials. Their values are never printed."""

    credentials: Credentials = Credentials()
    """[Credentials](credentials.md): of the gateway's own, from a file too, and what the server gets of each caller."""

    prefix: str | None = None
    """Prefix of this server's names. Default: the server's name. Empty: names are unchanged. Several servers may have none:
    then a call requests their lists, and what more than one of them lists is unknown. Their URIs have the servers' names."""

    separator: str | None = None
    """Text between this server's prefix and a tool's name. Empty: none, so that `prefix: gh_` makes `gh_<tool>`. Default: the
    top level's `separator`."""

    tools: Tools = Tools()
    """Which tools are offered."""

    untrusted: bool = False
    """Read and check everything that the server sends. Otherwise JSON mostly passes unread, and the server is trusted to
    [answer the request and no other](security.md#what-a-server-is-trusted-with). Costs time and memory for each call."""

    timeout: Seconds = 300.0
    """Idle timeout of a call: how long the server may send nothing before the call fails. A streaming call has no total
    timeout."""

    discovery_timeout: Seconds = 10.0
    """Deadline of each `initialize` and of each list, all pages included. A slow server delays merged results by at most this
    time."""

    connect_timeout: Seconds = 5.0
    """Deadline of connection establishment, TCP and TLS."""

    tls: UpstreamTls | None = None
    """TLS options. With `endpoints`, the section enables TLS, even as `{}`."""

    http2: bool = False
    """Use HTTP/2 to the server: with TLS by ALPN, without TLS by prior knowledge (h2c)."""

    idle_timeout: Seconds | None = Field(default=None, ge=0.001)
    """How long an unused connection is kept open; default `4s`. Common servers close idle connections after 5 s; a request
    sent at that moment fails. With `command`: how long a child lives without a running call or an open stream; default `10m`.
    After that, its session is opened again by the next request."""

    max_requests_per_connection: WholeNumber | None = Field(default=None, ge=1, le=MAX_COUNT)
    """Requests after which a connection is closed. Default: no limit."""

    load_balancing: LoadBalancing = "round_robin"
    """How requests are distributed over replicas. `ring_hash`: by the server's session id, so that the requests of a session
    go to the same replica while it is healthy. That need not be the one that opened the session: see `sticky_sessions`."""

    sticky_sessions: bool = False
    """Send the requests of a session to the replica that opened it, for servers that keep sessions in memory. When the replica
    dies, its sessions are opened again on another one."""

    dns: Dns = Dns()
    """Resolution of host names."""

    health_check: HealthCheck | None = None
    """Active health checks. The section enables them, even as `{}`."""

    outlier_detection: OutlierDetection | None = None
    """Passive health checks. The section enables them, even as `{}`."""

    circuit_breakers: CircuitBreakers = CircuitBreakers()
    """Limits on connections and requests."""

    retries: Retries | None = None
    """Retries where they are safe. The section enables them, even as `{}`; so does `sticky_sessions`."""

    keepalive: Keepalive | None = None
    """Keepalive probes on connections. The section enables them, even as `{}`."""

    typed_per_filter_config: PerFilterConfig = Field(default_factory=dict, repr=False, validate_default=True)
    """Per-route configuration of filters in `envoy.http_filters` for calls to this server, by filter name, such as an
    RBACPerRoute."""

    @field_validator("url")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        # The URL is not repeated in errors: its query may hold a key.
        if any(ord(char) <= 0x20 or ord(char) >= 0x7F for char in value):
            raise ValueError("spaces, control and non-ASCII characters are not allowed in a URL: percent-encode them")
        try:
            parts = urlsplit(value)
        except ValueError:
            raise ValueError(_BAD_HOST) from None
        if parts.scheme not in ("http", "https"):
            raise ValueError("expected a URL that starts with http:// or https://")
        if parts.username is not None or parts.password is not None:
            raise ValueError("a user name or password is not allowed in a URL: use headers.Authorization")
        if parts.fragment:
            raise ValueError("a #fragment is not allowed in the URL of a server")
        try:
            port = parts.port if parts.port is not None else 80
            _authority(f"{_bracketed(parts.hostname or '')}:{port}")
        except ValueError:
            raise ValueError(_BAD_HOST) from None
        # Schemes are case-insensitive (RFC 3986 section 3.1). In lower case, they can be compared.
        return parts.scheme + value[len(parts.scheme) :]

    @field_validator("unix_socket")
    @classmethod
    def _socket(cls, value: str | None) -> str | None:
        if value is not None and (problem := unix_path_problem(value)) is not None:
            raise ValueError(problem)
        return value

    @field_validator("path")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"/[\x21-\x22\x24-\x7e]*", value):
            raise ValueError("expected an absolute path such as /mcp or /mcp?key=value")
        return value

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        seen: set[str] = set()
        for name in value:
            lower = name.lower()
            if is_gateways(name):
                raise ValueError(f"{name} is set by the gateway and can't be configured")
            if lower in seen:
                raise ValueError(f"{name} is given twice (header names ignore case)")
            seen.add(lower)
        return freeze(dict(value))

    @field_validator("prefix")
    @classmethod
    def _prefix_characters(cls, value: str | None) -> str | None:
        if value is not None and not _PREFIX.fullmatch(value):
            raise ValueError("expected at most 48 characters out of A-Z a-z 0-9 _ . -")
        return value

    @field_validator("separator")
    @classmethod
    def _own_separator(cls, value: str | None) -> str | None:
        return _checked_separator(value) if value else value

    @field_validator("env")
    @classmethod
    def _env(cls, value: dict[str, SecretStr | None]) -> dict[str, SecretStr | None]:
        for name in value:
            if problem := variable_problem(name):
                raise ValueError(problem)
        return freeze(dict(value))

    @field_validator("inherit_env")
    @classmethod
    def _inherit_env(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if problem := variable_problem(name):
                raise ValueError(problem)
        return value

    @field_validator("command", mode="before")
    @classmethod
    def _one_list(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError(f"expected a list: {_ONE_LIST}")
        return value

    @model_validator(mode="after")
    def _one_target(self) -> Server:
        if sum((self.url is not None, bool(self.endpoints), self.command is not None)) != 1:
            raise ValueError("give either url, endpoints or command")
        if self.command is not None and not self.command[0].get_secret_value():
            raise PlacedError(("command", 0), "expected the name or the path of a program")
        if unused := sorted(self.model_fields_set & (ONLY_STDIO if self.command is None else ONLY_HTTP)):
            raise PlacedError(
                (unused[0],), "requires command" if self.command is None else "has no meaning with command"
            )
        if self.transport != "streamable_http" and (unused := sorted(self.model_fields_set & ONLY_STREAMABLE_HTTP)):
            raise PlacedError((unused[0],), f"has no meaning with transport: {self.transport}")
        if (self.command is not None or self.transport == "streamable_http") and self.model_fields_set & ONLY_SSE:
            raise PlacedError((min(ONLY_SSE),), "requires transport: sse")
        if self.unix_socket is not None and (self.url is None or "dns" in self.model_fields_set):
            raise PlacedError(
                ("unix_socket",), "requires url" if self.url is None else "there is no name to look up: leave dns out"
            )
        if self.url is not None and self.path is not None:
            raise ValueError("path requires endpoints; with url, the path is part of the URL")
        if self.url is not None and self.tls is not None and not self.url.startswith("https:"):
            raise ValueError("tls requires an https URL")
        if self.keepalive is not None and self.keepalive.http2_interval is not None and not self.http2:
            raise ValueError("keepalive.http2_interval requires http2: true")
        if len(set(self.endpoints)) != len(self.endpoints):
            raise ValueError("an endpoint is listed twice")
        return self

    @property
    def written_headers(self) -> tuple[str, ...]:
        """Names, in lower case, of the headers that its requests may get by what is configured for it."""
        names = (*self.headers, *(target for _, target in self.credentials.targets()))
        return tuple(dict.fromkeys(name.lower() for name in names))

    @model_validator(mode="after")
    def _nothing_is_sent_twice(self) -> Server:
        names = {name.lower() for name in self.headers}
        for path, target in self.credentials.targets():
            if target.lower() in names:
                raise PlacedError(("credentials", *path), f"{target} is among the server's headers, too")
        query = self.credentials.query
        if query is not None and query.name in dict(parse_qsl(self._query, keep_blank_values=True)):
            raise PlacedError(("credentials", "query", "name"), "the server's URL has this parameter already")
        return self

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Omits path and query of the target: hosted servers put API keys into both."""
        for name, value in super().__repr_args__():
            if name == "url" and self.url is not None:
                parts = urlsplit(self.url)
                yield name, f"{parts.scheme}://{parts.netloc}/..."
            elif name == "path" and self.path is not None:
                yield name, "/..."
            elif name == "command" and self.command is not None:
                yield name, (self.command[0].get_secret_value(), "...")
            else:
                yield name, value

    @property
    def is_bridged(self) -> bool:
        """Whether it speaks another transport than Streamable HTTP, so that a process of ours is between Envoy and it."""
        return self.command is not None or self.transport == "sse"

    @property
    def connection_idle_timeout(self) -> float:
        """How long Envoy keeps an unused connection, in seconds."""
        return 4.0 if self.idle_timeout is None else self.idle_timeout

    @property
    def child_idle_timeout(self) -> float:
        """How long a child of a stdio server lives unused, in seconds."""
        return 600.0 if self.idle_timeout is None else self.idle_timeout

    @property
    def secrets(self) -> tuple[str, ...]:
        """Configured values that may be secret, and that the server knows: what it writes may repeat them."""
        words = [word.get_secret_value() for word in self.command or ()]
        headers = [value.get_secret_value() for value in self.headers.values()]
        own = self.credentials.own
        if own is not None and own.value is not None:
            headers.append(own.value.get_secret_value())
        headers += [client.secret for client in self.credentials.clients.values() if client.secret is not None]
        env = {name: value.get_secret_value() for name, value in self.env.items() if value is not None}
        path, _, query = ("", "", "") if self.command is not None else self.path_and_query.partition("?")
        of_url = (*secret_segments(path), *secret_variables(dict(parse_qsl(query))))
        return (*headers, *of_url, *secret_variables(env), *_secrets_in(words))

    @property
    def credential_keys(self) -> tuple[str, ...]:
        """The keys by which it gets credentials, for messages about them."""
        headers = [f"headers.{name}" for name in self.headers if is_named_secret(name)]
        return (*headers, *(f"credentials.{key}" for key in self.credentials.kinds))

    @property
    def uses_tls(self) -> bool:
        """Whether Envoy uses TLS to this server."""
        return self.tls is not None if self.url is None else self.url.startswith("https:")

    @property
    def safe_retries(self) -> Retries | None:
        """The effective retries. Sticky sessions need them, or the sessions of a dead replica would fail while it is down."""
        return Retries() if self.retries is None and self.sticky_sessions else self.retries

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Host (IPv6 without brackets) and port of each replica; none of a command."""
        if self.command is not None:
            return ()
        if self.url is None:
            pairs = (endpoint.rsplit(":", 1) for endpoint in self.endpoints)
            return tuple((host.strip("[]"), int(port)) for host, port in pairs)
        parts = urlsplit(self.url)
        return ((parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)),)

    def over_sse(self) -> Server:
        """A copy that speaks HTTP+SSE at the same place."""
        path = None if self.url is not None else self.path_and_query
        return self.model_copy(update={"transport": "sse", "path": path})

    @property
    def authority(self) -> str:
        """The `Host` header sent to the server: the URL's host, or the first endpoint."""
        if self.command is not None:
            return "localhost"
        return self.endpoints[0] if self.url is None else urlsplit(self.url).netloc

    @property
    def path_and_query(self) -> str:
        """Path and query of the endpoint, as configured."""
        if self.url is None:
            return self.path or ("/sse" if self.transport == "sse" else "/mcp")
        parts = urlsplit(self.url)
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    @property
    def _query(self) -> str:
        return self.path_and_query.partition("?")[2]


class Session(Model):
    """The sealed `Mcp-Session-Id` tokens."""

    secret: SecretStr | None = None
    """Secret for sealing tokens, at least 32 characters. Without it, a random secret is generated at each start: sessions end
    with the process, and replicas can't share them."""

    previous_secrets: tuple[SecretStr, ...] = ()
    """Secrets whose tokens are accepted as well, for rotation: first the one to come, then the one before."""

    ttl: Seconds = 86400.0
    """Lifetime of a session. Afterwards, clients get 404 and initialize again."""

    @field_validator("secret", "previous_secrets")
    @classmethod
    def _long_enough(cls, value: SecretStr | tuple[SecretStr, ...] | None) -> object:
        for secret in value if isinstance(value, tuple) else (value,):
            if secret is not None and len(secret.get_secret_value()) < 32:
                raise ValueError("a secret needs at least 32 characters; generate one with: openssl rand -base64 32")
        return value

    @model_validator(mode="after")
    def _rotation_needs_current(self) -> Session:
        if self.previous_secrets and self.secret is None:
            raise ValueError("previous_secrets requires secret")
        return self


class Limits(Model):
    """Bounds on the data that a client or a server can make the gateway hold."""

    request_bytes: Size = 4 << 20
    """Maximum request body. Above it clients get 413. Envoy's buffer and gRPC's messages have the same limit."""

    held_bytes: Size = Field(default=256 << 20, ge=1 << 20)
    """Maximum that a worker holds at a time of the answers it reads: lists to be merged, responses in which it rewrites URIs,
    events that are not complete, calls that wait for [consent](vetting.md). One session or principal gets a quarter; what does
    not fit waits, or is refused (`busy`). As much again for all stdio and HTTP+SSE servers together:
    [what they wrote and nobody has read](stdio.md#what-is-held)."""

    response_bytes: Size = 16 << 20
    """Maximum response that the gateway reads from one server: all pages of a list that it merges, or a
    [JSON response that is read](protocol.md#responses); and the whole event stream of a call with [consent](vetting.md)."""

    list_items: WholeNumber = Field(default=10_000, ge=1)
    """Maximum number of entries in a merged list, and of those that are taken from one server for it."""

    list_pages: WholeNumber = Field(default=100, ge=1)
    """Maximum number of pages read from one server for one list."""

    json_depth: WholeNumber = Field(default=100, ge=8, le=500)
    """Maximum nesting depth of a request's JSON."""

    json_members: WholeNumber = Field(default=100_000, ge=1000)
    """Maximum number of members of objects and elements of arrays, nested ones included, in a request, in an entry of a
    server's list, and in a response or event that the gateway reads; ten times as many in a page of a list."""

    batch_messages: WholeNumber = Field(default=50, ge=1, le=1000)
    """Maximum number of messages in a JSON-RPC batch (2025-03-26 only)."""

    event_bytes: Size = 10 << 20
    """Maximum size of an event in a server's event stream. A larger event ends the stream."""

    stream_bytes: Size = 1 << 20
    """Bytes after which a GET stream ends and the client opens the next one. This bounds what Envoy buffers for a client that
    does not read."""

    unread_bytes: Size = 64 << 20
    """Bytes of all GET streams of a worker that Envoy may have buffered. They count until the client is gone, and for
    `listen.limits.unread_timeout` after the stream has ended. A session gets at most a quarter of what is left, and always
    64 KiB; above that its streams end, and then its servers wait."""

    cel_bytes: Size = 64 << 10
    """Maximum `params` of a request that is judged by a condition in CEL that names them. Above it the request is refused."""

    streams: WholeNumber = Field(default=10_000, ge=1, le=1_000_000)
    """Maximum number of open GET streams of a worker. Above it: 429. A principal gets at most a quarter."""

    session_streams: WholeNumber = Field(default=32, ge=1, le=10_000)
    """Maximum number of open GET streams of a session. One more ends the oldest."""


class Log(Model):
    """Logging. Bodies and credentials are never logged."""

    level: Literal["debug", "info", "warning", "error"] | None = None
    """Minimum level of the gateway's own log (standard error). Default: `info`; in a terminal, `warning` for workers."""

    format: Literal["text", "json"] | None = None
    """Format of the gateway's own log. Default: text in a terminal, JSON otherwise."""

    access: str = "/dev/stdout"
    """File of Envoy's access log, one JSON object per request; on the terminal of `run`, one line to read. Empty: none."""


class _NoServers(dict[str, Any]):
    """An empty `servers` that is valid, because there is `pass_through`."""


class GatewayConfig(Model):
    """The whole configuration of a gateway."""

    servers: Mapping[str, Server]
    """The MCP servers by name. The name is the default prefix of the server's tools. Optional with `pass_through`."""

    include: tuple[str, ...] = ()
    """Further files with servers, such as `servers.d/*.yaml`: in a name, `*`, `?` and `[a-z]` stand for others. Each has a
    section `servers` and nothing else. `run`, and `serve` with `--envoy-config`, read them again when they change, come or go.
    Relative paths start in the folder of this file."""

    listen: Listen = Listen()
    """Where Envoy accepts MCP clients."""

    overload: Overload = Overload()
    """Envoy's overload manager."""

    origins: tuple[Origin, ...] | None = None
    """Web origins whose pages may call the gateway and read what it answers (CORS), such as `https://app.example.com`; `*`
    allows all, `null` included. Default: loopback origins. Cookies are of no use to these pages, and credentials are theirs to
    send. Requests without an `Origin` header (agents, SDKs) are not affected."""

    separator: str = "__"
    """Text between a server's prefix and a tool's name."""

    bare_names: bool = False
    """Whether tools and prompts can also be used under their own names, without a prefix, if exactly one server has the name.
    Resolving a name requests the servers' lists."""

    resources: Literal["prefixed", "unprefixed"] = "prefixed"
    """How clients see resource URIs when there are several servers. `prefixed`: as `<prefix>+<uri>`. `unprefixed`: unchanged,
    if only one server has the URI; reading one requests the servers' lists. With a single server URIs are always unchanged."""

    session: Session = Session()
    """Client sessions."""

    limits: Limits = Limits()
    """Bounds on messages, lists and streams."""

    log: Log = Log()
    """Logging."""

    telemetry: Telemetry = Telemetry()
    """Traces, metrics, and the access log by OpenTelemetry."""

    audit: Audit | None = None
    """Who called what. Default: none."""

    status: Status = Status()
    """The gateway's state."""

    errors: Errors = Errors()
    """Errors for denied requests."""

    metadata: Metadata = Metadata()
    """The dynamic metadata for policies."""

    rate_limits: tuple[RateLimit, ...] = ()
    """Rate limits."""

    rate_limit_service: RateLimitService | None = None
    """The service that counts requests for limits with `scope: global`."""

    authentication: Authentication | None = None
    """Who may call. Default: everybody."""

    authorization: Authorization | None = None
    """What callers may see and do. Default: everything."""

    vetting: Entries = ()
    """Calls that wait for the user's consent. Default: none."""

    virtual_servers: Mapping[str, VirtualServer] = Field(
        default_factory=dict, validate_default=True, max_length=MAX_VIRTUAL_SERVERS
    )
    """Further endpoints, by name, each with a selection of what the servers offer. A name may have a namespace, as in
    `team-a/readonly`. Where several match a request, the first one has it, and the main endpoint comes last."""

    main_endpoint: bool = True
    """Whether all servers together are an endpoint, at `listen.path`. With `false` there are only `virtual_servers`; then
    servers that no two of them share may have the same prefix."""

    virtual_server_header: bool = False
    """Whether a request to the main endpoint may choose a virtual server by the header `x-mcp-virtualserver`, such as
    `readonly` or `team-a/readonly`; not one with `authentication` of its own."""

    envoy: EnvoyConfig = EnvoyConfig()
    """Envoy filters around the gateway's."""

    pass_through: PassThrough = PassThrough()
    """Existing routes to MCP servers whose requests are inspected, not changed."""

    @model_validator(mode="before")
    @classmethod
    def _no_servers(cls, data: object) -> object:
        if isinstance(data, Mapping) and data.get("pass_through") is not None and data.get("servers", {}) == {}:
            return {**data, "servers": _NoServers()}
        return data

    @field_validator("include")
    @classmethod
    def _included(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value:
            raise ValueError("only a file can include others, and not one that is included")
        return value

    @field_validator("servers", mode="before")
    @classmethod
    def _not_empty(cls, value: object) -> object:
        if value == {} and not isinstance(value, _NoServers):
            raise ValueError("name at least one server")
        return value

    @field_validator("servers")
    @classmethod
    def _server_names(cls, value: dict[str, Server]) -> dict[str, Server]:
        for name in value:
            if problem := server_name_problem(name):
                raise PlacedError((name,), problem)
        return freeze(dict(value))

    @field_validator("separator")
    @classmethod
    def _separator(cls, value: str) -> str:
        return _checked_separator(value)

    @model_validator(mode="after")
    def _prefixes_are_distinct(self) -> GatewayConfig:
        for name, server in self.servers.items():
            prefix, separator = prefix_of(name, server), separator_of(server, self.separator)
            # Prefixes and separators are not repeated in errors: like any value, they may come from a variable.
            if separator and separator in prefix:
                raise PlacedError(
                    ("servers", name),
                    "the prefix contains the separator, so names would be ambiguous: set another `prefix` or `separator`",
                )
        # Each set of servers that clients see together.
        for servers in self._endpoints_servers():
            self._refuse_same_prefix(servers)
            self._refuse_ambiguous({start_of(name, one, self.separator): name for name, one in servers.items()})
            self._refuse_same_scheme(servers)
            if self.bare_names and sum(not prefix_of(name, one) for name, one in servers.items()) > 1:
                raise PlacedError(
                    ("bare_names",), "several servers have no prefix, so names without one are theirs: leave this out"
                )
        return self

    def _endpoints_servers(self) -> Iterator[Mapping[str, Server]]:
        if self.main_endpoint:
            yield self.servers
            return
        for one in self.virtual_servers.values():
            yield {name: self.servers[name] for name in one.offered if name in self.servers}

    def _refuse_same_prefix(self, servers: Mapping[str, Server]) -> None:
        owners: dict[str, str] = {}
        for name, server in servers.items():
            if not (prefix := prefix_of(name, server)):
                continue
            start = start_of(name, server, self.separator)
            if (other := owners.get(prefix) or owners.get(start)) is not None:
                raise ValueError(f"servers.{name} and servers.{other} both have the same prefix: set another `prefix`")
            owners[prefix] = owners[start] = name

    def _refuse_same_scheme(self, servers: Mapping[str, Server]) -> None:
        words: dict[str, str] = {}
        all_words = uri_words(self.servers)
        for name in servers:
            word = all_words[name]
            if word in words:
                raise ValueError(
                    f"servers.{name} and servers.{words[word]}: their prefixes are the same as URI schemes, which ignore "
                    "case and replace all characters but letters, digits, dot and minus by a minus: set another `prefix`"
                )
            words[word] = name

    @staticmethod
    def _refuse_ambiguous(starts: Mapping[str, str]) -> None:
        # "a" + "__" + "_x" and "a_" + "__" + "x" are the same name. In sorted order, strings that begin with a string follow
        # it directly, so comparing neighbours is enough.
        for start, other in pairwise(sorted(filter(None, starts))):
            if other.startswith(start):
                name, owner = starts[start], starts[other]
                raise ValueError(
                    f"servers.{name} and servers.{owner}: a name that starts with the prefix and separator of {owner} "
                    f"could belong to {name} as well: set another `prefix`"
                )

    @model_validator(mode="after")
    def _policies_fit(self) -> GatewayConfig:
        per_server = {name: server.typed_per_filter_config for name, server in self.servers.items()}
        for problem in policies.problems(
            self.envoy,
            self.rate_limits,
            self.rate_limit_service,
            per_server,
            {name: one.typed_per_filter_config for name, one in self.virtual_servers.items()},
            authenticated=self.authenticates,
        ):
            raise problem
        return self

    @model_validator(mode="after")
    def _authorities_of_certificates(self) -> GatewayConfig:
        authorities: set[str] = set()
        for place, authentication in self.authentications():
            if authentication.mtls is None:
                continue
            # An attached gateway has the TLS of whose listener it is.
            if self.listen.tls is not None and self.listen.tls.client_ca is not None:
                raise PlacedError(
                    ("listen", "tls", "client_ca"),
                    "authentication.mtls.ca says which certificates are accepted: leave one of them out",
                )
            authorities.add(authentication.mtls.ca)
            if len(authorities) > 1:
                raise PlacedError(
                    (*place, "mtls", "ca"),
                    "another file than at another endpoint: the handshake is over before the endpoint is known, so use one"
                    " file with all certificates",
                )
        return self

    @model_validator(mode="after")
    def _one_filter_of_a_kind(self) -> GatewayConfig:
        for place, authentication in self.authentications():
            if self.envoy.principal is not None:
                raise PlacedError(
                    ("envoy", "principal"),
                    "authentication says who the caller is: leave this out, or use authentication.existing",
                )
            for key in ("http_filters_before", "http_filters"):
                for method, name, message in _written_metadata(authentication):
                    if policies.has_filter(getattr(self.envoy, key), message):
                        raise PlacedError(
                            ("envoy", key),
                            f"{name} filter here and {'.'.join(place)}.{method} would write the same metadata, so that it is"
                            " not clear who a caller is: leave one of them out",
                        )
        return self

    @model_validator(mode="after")
    def _rules_fit(self) -> GatewayConfig:
        if self.authorization is not None:
            identified = self.authentication is not None or self.existing is not None
            for problem in self.authorization.problems(self.servers, identified=identified):
                raise PlacedError(("authorization", *problem.path), problem.message)
        for problem in contradictions(self.vetting, self.servers):
            raise PlacedError(("vetting", *problem.path), problem.message)
        return self

    @field_validator("virtual_servers")
    @classmethod
    def _virtual_names(cls, value: dict[str, VirtualServer]) -> dict[str, VirtualServer]:
        for name in value:
            if not re.fullmatch(NAME_PATTERN, name):
                raise PlacedError(
                    (name,),
                    "expected a name of 1 to 48 characters out of A-Z a-z 0-9 _ . -, beginning and ending with a letter or"
                    " digit, and possibly one more before it and a slash (namespace/name)",
                )
        return freeze(value)

    @model_validator(mode="after")
    def _virtual_servers_fit(self) -> GatewayConfig:
        if not self.main_endpoint and not self.virtual_servers:
            raise PlacedError(("main_endpoint",), "without it, there has to be one of virtual_servers")
        if not self.main_endpoint and self.virtual_server_header:
            raise PlacedError(("virtual_server_header",), "it is the main endpoint's, which main_endpoint turns off")
        for name, one in self.virtual_servers.items():
            if one.typed_per_filter_config and self.virtual_server_header:
                raise PlacedError(
                    ("virtual_servers", name, "typed_per_filter_config"),
                    "with virtual_server_header it can be called at the main endpoint, without this: leave one of them out",
                )
        if not self.virtual_servers:
            return self
        behind = {
            name: Behind(start_of(name, server, self.separator), server.tools.allowing())
            for name, server in self.servers.items()
        }
        identified = self.authentication is not None or self.existing is not None
        main = self.listen.path
        for problem in virtual_servers.problems(
            self.virtual_servers, main, behind, identified=identified, has_main=self.main_endpoint
        ):
            raise PlacedError(("virtual_servers", *problem.path), problem.message)
        return self

    @model_validator(mode="after")
    def _authentications_fit(self) -> GatewayConfig:
        for problem in authentications.problems(list(self.authentications())):
            raise problem
        for name, one in self.virtual_servers.items():
            if one.authentication is None:
                key = [] if not one.domains else ["hosts" if one.host is None else "host"]
                path = one.path_of(name, self.listen.path)
                url = None if one.domains else authentications.url_at(self.authentication, self.listen.path, path)
                authentications.check_audiences(("virtual_servers", name, *key), self.authentication, url)
        return self

    @model_validator(mode="after")
    def _clients_log_in_at_one_server(self) -> GatewayConfig:
        by_itself = {name for name, server in self.servers.items() if server.credentials.pass_through}
        named = [({*one.offered}, one.authentication or self.authentication) for one in self.virtual_servers.values()]
        for servers, authentication in (*named, *([({*self.servers}, self.authentication)] * self.main_endpoint)):
            for name in sorted(by_itself & servers):
                place = ("servers", name, "credentials", "pass_through")
                if len(servers) > 1:
                    raise PlacedError(
                        place,
                        "an endpoint has further servers, and clients can log in at one only: give this one a virtual server"
                        " of its own, without a main endpoint (main_endpoint: false)",
                    )
                if authentication is not None or self.existing is not None:
                    raise PlacedError(
                        place, "its endpoint has authentication: the client's Authorization can't be for both"
                    )
        return self

    @model_validator(mode="after")
    def _tokens_are_there(self) -> GatewayConfig:
        if any(one.oauth is not None for _, one in self.authentications()):
            return self
        for name, server in self.servers.items():
            if server.credentials.token_exchange is not None:
                place = ("servers", name, "credentials", "token_exchange")
                raise PlacedError(
                    place, "requires authentication.oauth: only tokens that Envoy has verified are exchanged"
                )
        return self

    def authentications(self) -> Iterator[tuple[tuple[str, ...], Authentication]]:
        """All sections that say who may call, with their places: the main endpoint's, and those of virtual servers."""
        if self.authentication is not None:
            yield ("authentication",), self.authentication
        for name, one in self.virtual_servers.items():
            if one.authentication is not None:
                yield ("virtual_servers", name, "authentication"), one.authentication

    @property
    def authenticates(self) -> bool:
        """Whether any endpoint says who may call."""
        return any(True for _ in self.authentications())

    @property
    def existing(self) -> Existing | None:
        """Where to find what others' filters verified. `envoy.principal` is an earlier name for it, as far as it is
        metadata."""
        if self.authentication is not None:
            return self.authentication.existing
        principal = self.envoy.principal
        return Existing(subject=principal.metadata) if principal is not None and principal.metadata else None

    @property
    def judges_first(self) -> bool:
        """Whether policies apply to each request before it is processed."""
        return self.envoy.policies == "all" and (
            bool(self.envoy.http_filters) or any(not limit.only_calls for limit in self.rate_limits)
        )

    def with_client(self, name: str, key: str, client: ClientCredentials | TokenExchange) -> GatewayConfig:
        """A copy in which a server has this OAuth client."""
        server = self.servers[name]
        credentials = server.credentials.model_copy(update={key: client})
        server = server.model_copy(update={"credentials": credentials})
        return self.model_copy(update={"servers": {**self.servers, name: server}})

    def with_sse(self, names: Collection[str]) -> GatewayConfig:
        """A copy in which these of the servers with ``transport: auto`` have ``sse``."""
        found = {
            name: server.over_sse()
            for name, server in self.servers.items()
            if name in names and server.transport == "auto"
        }
        return self.model_copy(update={"servers": {**self.servers, **found}})

    @property
    def collects_all(self) -> bool:
        """Whether a record is made of each request."""
        metrics_or_logs = self.telemetry.metrics is not None or self.telemetry.logs is not None
        return metrics_or_logs or self.audit is not None

    @property
    def has_page(self) -> bool:
        """Whether there is a status page."""
        return bool(self.status.address)

    @property
    def collects_always(self) -> bool:
        """Whether records are made of any request, also while nobody looks at the status page."""
        return self.collects_all or self.telemetry.traces is not None

    @property
    def collects(self) -> bool:
        """Whether records are made of any."""
        return self.collects_always or self.has_page

    @property
    def has_policies(self) -> bool:
        """Whether the operator configured filters or rate limits."""
        return bool(self.envoy.http_filters_before or self.envoy.http_filters or self.rate_limits)

    @property
    def counts_locally(self) -> bool:
        """Whether there are local rate limits."""
        raw = [*self.envoy.http_filters_before, *self.envoy.http_filters]
        return any(limit.scope == "local" for limit in self.rate_limits) or any(map(policies.is_local_rate_limit, raw))

    @property
    def more_namespaces(self) -> tuple[str, ...]:
        """The namespaces that receive the same metadata as ``mcp_proxy``."""
        named = self.metadata.namespaces
        per_server = [server.typed_per_filter_config for server in self.servers.values()]
        raw = (self.envoy.http_filters, self.envoy.typed_per_filter_config, per_server)
        if policies.NATIVE_NAMESPACE in named or not policies.mentions(raw, policies.NATIVE_NAMESPACE):
            return named
        return (*named, policies.NATIVE_NAMESPACE)


def prefix_of(name: str, server: Server) -> str:
    """The word before a server's names, possibly empty."""
    return name if server.prefix is None else server.prefix


def separator_of(server: Server, usual: str) -> str:
    """What stands between prefix and name, possibly nothing. ``usual`` is the top level's."""
    return usual if server.separator is None else server.separator


def start_of(name: str, server: Server, usual: str) -> str:
    """What a server's names start with: prefix and separator, or nothing. ``usual`` is the top level's separator."""
    prefix = prefix_of(name, server)
    return prefix + separator_of(server, usual) if prefix else ""


def uri_words(servers: Mapping[str, Server]) -> dict[str, str]:
    """The word before each server's URIs. One server may have none; of several without a prefix, each has its name: who has a
    URI has to be seen from it."""
    prefixes = {name: prefix_of(name, server) for name, server in servers.items()}
    several = list(prefixes.values()).count("") > 1
    return {name: scheme_word(prefix or (name if several else "")) for name, prefix in prefixes.items()}


def _checked_separator(value: str) -> str:
    if not _SEPARATOR.fullmatch(value):
        raise ValueError("expected 1 to 8 characters out of A-Z a-z 0-9 _ . / : -")
    return value


def _secrets_in(command: Sequence[str]) -> Iterable[str]:
    if not command:
        return ()
    from mcp_extproc.config.command_words import secret_words  # compiles much, for which other servers have no use

    return secret_words(command)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _written_metadata(authentication: Authentication) -> Iterator[tuple[str, str, str]]:
    """Methods whose filters write metadata themselves: the method's key, and the filter in words and as a message."""
    if authentication.oauth is not None:
        yield "oauth", "a jwt_authn", "jwt_authn.v3.JwtAuthentication"
    if authentication.external is not None and authentication.external.principal_metadata:
        yield "external.principal_metadata", "an ext_authz", "ext_authz.v3.ExtAuthz"
