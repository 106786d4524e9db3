"""Virtual servers: further endpoints, each with a selection of what the servers offer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from mcp_extproc.config.authentication import Authentication
from mcp_extproc.config.authorization import (
    KINDS,
    SELECTOR_SCHEMA,
    Authorization,
    Kind,
    Selector,
    selected_by,
    selector,
)
from mcp_extproc.config.base import Model
from mcp_extproc.config.config_error import PlacedError, quoted, unknown_server
from mcp_extproc.config.policies import PerFilterConfig
from mcp_extproc.config.values import HeaderKey, Origin, absolute_path, freeze, host_name

ALL: Final = "all"
"""Selects everything."""

_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,46}[A-Za-z0-9])?"
NAME_PATTERN: Final = rf"{_WORD}(?:/{_WORD})?"
"""Of a virtual server, with a namespace or without."""

MAX_VIRTUAL_SERVERS: Final = 1000

_NEW_NAME = re.compile(r"[A-Za-z0-9_./-]{1,128}")  # 2025-11-25 server/tools, Tool Names; and the slash of SEP-986

# What the gateway or HTTP itself reads or sets, and credentials, which are nobody's name.
_NOT_MATCHED = frozenset({
    "accept", "authorization", "connection", "content-length", "content-type", "cookie", "expect", "host", "keep-alive",
    "last-event-id", "mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id", "origin", "te", "trailer",
    "transfer-encoding", "upgrade", "x-mcp-virtualserver",
})  # fmt: skip

_EVERYTHING: Final = (Selector("glob", "*"),)


def _selection(value: object) -> tuple[Selector, ...]:
    if value == ALL:
        return _EVERYTHING
    if not isinstance(value, list | tuple):
        raise ValueError("expected all, or a list of names, in which * stands for any characters")
    if ALL in value:
        raise ValueError("write all without brackets for everything, or {exact: all} for what is called so")
    return tuple(_placed(index, one) for index, one in enumerate(value))


def _placed(index: int, value: object) -> Selector:
    try:
        return selector(value)
    except ValueError as error:
        raise PlacedError((index,), str(error)) from None


Selection = Annotated[
    tuple[Selector, ...],
    PlainValidator(_selection),
    PlainSerializer(lambda selectors: [{one.how: one.text} for one in selectors]),
    WithJsonSchema({"anyOf": [{"enum": [ALL]}, {"type": "array", "items": SELECTOR_SCHEMA}]}),
]


class Offered(Model):
    """What a virtual server offers of one server. What is not named is not there. `all` in place of this section is
    everything."""

    tools: Selection = ()
    """Which tools, by the server's own names, without prefix: `all`, or a list of selectors as in
    [authorization](authorization.md#rules)."""

    prompts: Selection = ()
    """Which prompts, by the server's own names, written as `tools`."""

    resources: Selection = ()
    """Which resources, by the server's own URIs, written as `tools`. A template is selected by its own text, such as
    `file:///{path}`."""

    def of(self, kind: Kind) -> tuple[Selector, ...]:
        """The selectors of a kind; none for nothing."""
        selectors: tuple[Selector, ...] = getattr(self, kind)
        return selectors

    def allowing(self, kind: Kind) -> Callable[[str], bool]:
        """A function that says whether an item of a kind is offered."""
        return selected_by(self.of(kind))

    def is_whole(self, kind: Kind) -> bool:
        """Whether it is everything of a kind."""
        return any(one.how == "glob" and not one.text.strip("*") for one in self.of(kind))

    @property
    def is_empty(self) -> bool:
        """Whether it is nothing at all."""
        return not any(map(self.of, KINDS))


def _whole(value: object) -> object:
    if value != ALL and not isinstance(value, Mapping | Offered):
        raise ValueError("expected all, or a mapping with tools, prompts or resources")
    return dict.fromkeys(KINDS, ALL) if value == ALL else value


def _new_name(value: str) -> str:
    if not _NEW_NAME.fullmatch(value):
        raise ValueError("expected a name of 1 to 128 characters out of A-Z a-z 0-9 _ . / -")
    return value


NewName = Annotated[str, AfterValidator(_new_name)]


class Rename(Model):
    """Names under which a virtual server shows things instead of their own. The former names are unknown there."""

    tools: Mapping[str, NewName] = Field(default_factory=dict)
    """By the name that clients would see otherwise, prefix included: the new one, which gets no prefix."""

    prompts: Mapping[str, NewName] = Field(default_factory=dict)
    """The same for prompts."""

    @field_validator("tools", "prompts")
    @classmethod
    def _frozen(cls, value: dict[str, str]) -> dict[str, str]:
        return freeze(value)

    def of(self, kind: Kind) -> Mapping[str, str]:
        """New names by former ones."""
        return {"tools": self.tools, "prompts": self.prompts, "resources": {}}[kind]


def _wanted(value: object) -> str | Selector:
    if isinstance(value, Selector) or (isinstance(value, Mapping) and set(value) == {"regex"}):
        return selector(value)
    if not isinstance(value, str):
        raise ValueError('expected a text, or {regex: "^a"}')
    if not value or not value.isprintable() or not value.isascii() or value != value.strip():
        raise ValueError("expected values of visible ASCII characters")
    return value


WantedValue = Annotated[
    str | Selector,
    PlainValidator(_wanted),
    PlainSerializer(lambda value: value if isinstance(value, str) else {value.how: value.text}),
    WithJsonSchema({
        "anyOf": [
            {"type": "string", "minLength": 1},
            {
                "type": "object",
                "properties": {"regex": {"type": "string", "minLength": 1}},
                "required": ["regex"],
                "additionalProperties": False,
            },
        ]
    }),
]  # fmt: skip


class VirtualServer(Model):
    """A further endpoint, with a selection of what the servers offer, under names and rules of its own. See
    [Virtual servers](virtual-servers.md)."""

    path: str | None = None
    """Path of the endpoint, matched exactly. Default: `listen.path` with the name behind it, such as `/mcp/readonly`, or with
    `host` or `hosts` `listen.path` itself."""

    host: str | None = None
    """Host name by which clients reach it, without port. `*.example.com` stands for all names below. Default: any."""

    hosts: tuple[str, ...] = ()
    """The same for several host names."""

    headers: Mapping[HeaderKey, WantedValue] = Field(default_factory=dict, validate_default=True)
    """Headers that requests to it have to have, each with exactly this value, or with one that `{regex: "^a"}`
    ([RE2](https://github.com/google/re2/wiki/Syntax)) matches, searched anywhere in it unless anchored."""

    origins: tuple[Origin, ...] | None = None
    """Web origins whose pages may call it, in place of the top level's. Not with `headers`, by which nobody can tell what a
    browser asks beforehand. Default: the top level's [`origins`](#top-level)."""

    instructions: str | None = Field(default=None, max_length=16 * 1024)
    """What clients are told about it on `initialize`. Default: what its servers say."""

    servers: Mapping[str, Annotated[Offered, BeforeValidator(_whole)]] = Field(
        default_factory=dict, validate_default=True
    )
    """What it offers, by the names of [`servers`](#serversname); a server that is not named is not there. `all` is everything
    that a server has."""

    rename: Rename = Rename()
    """Other names for what it offers."""

    authorization: Authorization | None = None
    """What callers may see and do of that. It replaces the top level's section, with the same keys. Default: the top level's
    [`authorization`](#authorization)."""

    authentication: Authentication | None = None
    """Who may call it. It replaces the top level's section, with the same keys. Default: the top level's
    [`authentication`](#authentication)."""

    typed_per_filter_config: PerFilterConfig = Field(default_factory=dict, repr=False, validate_default=True)
    """Per-route configuration of filters in `envoy.http_filters_before` for requests to it, by filter name, in place of that
    of [`envoy`](#envoy). Not with `virtual_server_header`: such requests come in at the main endpoint."""

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        return None if value is None else absolute_path(value)

    @field_validator("host")
    @classmethod
    def _host(cls, value: str | None) -> str | None:
        return None if value is None else _domain(value)

    @field_validator("hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_domain, value))

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: dict[str, str | Selector]) -> dict[str, str | Selector]:
        if any(name.lower() in _NOT_MATCHED for name in value):
            raise ValueError("one of these headers has a meaning of its own, and can't choose a virtual server")
        return freeze({name.lower(): wanted for name, wanted in value.items()})

    @field_validator("servers", mode="before")
    @classmethod
    def _by_server(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            raise ValueError("expected a mapping of servers, each with what is offered of it, such as `github: all`")
        return value

    @field_validator("servers")
    @classmethod
    def _servers(cls, value: dict[str, Any]) -> dict[str, Any]:
        return freeze(value)

    @model_validator(mode="after")
    def _either(self) -> VirtualServer:
        if self.host is not None and self.hosts:
            raise PlacedError(("host",), "give either host or hosts")
        if self.origins is not None and self.headers:
            raise PlacedError(
                ("origins",),
                "a browser asks for permission without these headers, so it is not known for which endpoint: use a path or"
                " host instead of headers, or leave origins to the top level",
            )
        return self

    @property
    def domains(self) -> tuple[str, ...]:
        """Host names by which it is reached, in lower case, possibly with a wildcard; none for any."""
        return self.hosts if self.host is None else (self.host,)

    def path_of(self, name: str, main: str) -> str:
        """Its path.

        Args:
            name: its name.
            main: path of the main endpoint.
        """
        return self.path or (main if self.domains else f"{main.removesuffix('/')}/{name}")

    @property
    def offered(self) -> Mapping[str, Offered]:
        """By server, without those of which it offers nothing."""
        return {name: offer for name, offer in self.servers.items() if not offer.is_empty}


def _domain(value: str) -> str:
    wildcard = "*." if value.startswith("*.") else ""
    return wildcard + host_name(value.removeprefix("*."))


@dataclass(frozen=True, slots=True)
class Behind:
    """What a check of virtual servers has to know of a server."""

    start: str
    """Prefix and separator of its names."""
    has_tool: Callable[[str], bool]
    """Whether it may offer a tool."""


def problems(
    virtual: Mapping[str, VirtualServer],
    path: str,
    servers: Mapping[str, Behind],
    *,
    identified: bool,
    has_main: bool = True,
) -> Iterator[PlacedError]:
    """What can't be as it is written.

    Args:
        virtual: by name.
        path: of the main endpoint.
        servers: by name.
        identified: whether anybody proves who calls the main endpoint.
        has_main: whether there is a main endpoint.
    """
    for name, one in virtual.items():
        for problem in (
            *_unknown_names(one, servers),
            *_bad_renames(one, servers),
            *_bad_rules(one, servers, identified=identified or one.authentication is not None),
        ):
            yield PlacedError((name, *problem.path), problem.message)
    yield from _unreachable(virtual, path, has_main=has_main)


def _unknown_names(one: VirtualServer, servers: Mapping[str, Behind]) -> Iterator[PlacedError]:
    for name, offer in one.servers.items():
        if name not in servers:
            yield PlacedError(("servers", name), unknown_server(name, servers))
            continue
        for number, item in enumerate(offer.tools):
            if item.name is not None and not servers[name].has_tool(item.name):
                yield PlacedError(
                    ("servers", name, "tools", number),
                    f"the server does not offer this tool, by servers.{quoted(name)}.tools: name another one",
                )


def _bad_rules(one: VirtualServer, servers: Mapping[str, Behind], *, identified: bool) -> Iterator[PlacedError]:
    if one.authorization is not None:
        for problem in one.authorization.problems(one.servers, identified=identified, elsewhere=servers):
            yield PlacedError(("authorization", *problem.path), problem.message)


def _bad_renames(one: VirtualServer, servers: Mapping[str, Behind]) -> Iterator[PlacedError]:
    behind = {name: servers[name] for name in one.offered if name in servers}
    kinds: tuple[Kind, ...] = ("tools", "prompts")
    for kind in kinds:
        renamed = one.rename.of(kind)
        owners: dict[str, str] = {}
        for former, new in renamed.items():
            place = ("rename", kind, former)
            if (owner := _offered_as(former, kind, one, behind)) is None:
                yield PlacedError(
                    place,
                    "nothing that is offered here has this name: write it with its prefix, and select it in"
                    f" servers.<name>.{kind}",
                )
            elif not behind[owner].start and sum(not server.start for server in behind.values()) > 1:
                yield PlacedError(
                    place, "several servers here have no prefix, so that nobody knows whose this is: give them one"
                )
            if new in owners:
                yield PlacedError(place, f"the same new name as that of {quoted(owners[new])}: choose another one")
            owners[new] = former
            taken = _offered_as(new, kind, one, behind) if new not in renamed or new == former else None
            # Where names have no prefix, a pattern may well match what nobody has.
            if taken is not None and (
                behind[taken].start or new in {item.name for item in one.servers[taken].of(kind)}
            ):
                yield PlacedError(place, f"{quoted(taken)} may offer something under the new name: choose another one")


def _offered_as(name: str, kind: Kind, one: VirtualServer, behind: Mapping[str, Behind]) -> str | None:
    """The server of which something may be offered under a name that is not a new one."""
    for owner, server in sorted(behind.items(), key=lambda pair: -len(pair[1].start)):
        if name.startswith(server.start) and len(name) > len(server.start):
            own = name[len(server.start) :]
            if one.servers[owner].allowing(kind)(own) and (kind != "tools" or server.has_tool(own)):
                return owner
            if server.start:
                return None
    return None


def _unreachable(virtual: Mapping[str, VirtualServer], path: str, *, has_main: bool) -> Iterator[PlacedError]:
    """Those whose requests are all another one's: the first that matches has them, the main endpoint comes last."""
    before: list[tuple[str, str, VirtualServer]] = []
    for name, one in virtual.items():
        own = one.path_of(name, path)
        if has_main and own == path and not one.domains and not one.headers:
            yield PlacedError(
                (name, "path"), "the path of the main endpoint (listen.path): use another one, or give host or headers"
            )
        for other, theirs, earlier in before:
            if own == theirs and _covers(earlier, one):
                yield PlacedError(
                    (name,), f"all of its requests are those of {quoted(other)}: use another path, host or headers"
                )
        before.append((name, own, one))


def _covers(earlier: VirtualServer, later: VirtualServer) -> bool:
    by_host = not earlier.domains or (
        bool(later.domains) and all(any(is_below(one, pattern) for pattern in earlier.domains) for one in later.domains)
    )
    return by_host and earlier.headers.items() <= later.headers.items()


def is_below(host: str, pattern: str) -> bool:
    """Whether a host name, or all that a pattern stands for, is what another pattern stands for.

    >>> is_below("a.example", "*.example"), is_below("*.b.example", "*.example"), is_below("example", "*.example")
    (True, True, False)
    """
    return host == pattern or (pattern.startswith("*.") and host.removeprefix("*").endswith(pattern[1:]))
