"""Names that clients can't use, and configuration that matches nothing. Plain functions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.endpoint import endpoints
from mcp_extproc.config.patterns import matcher
from mcp_extproc.gateway.catalog import Catalog
from mcp_extproc.mcp.names import MAX_NAME_CHARS, is_served

MAX_CLIENT_CHARS = 64
"""Maximum length of a tool's name in common clients and model APIs, prefix included."""

_CLIENT_NAME = re.compile(r"[A-Za-z0-9_-]*")
"""The characters that they accept. MCP itself also allows dots and slashes (2025-11-25 server/tools, Tool Names)."""

_SHOWN_CHARS = 80

Names = Mapping[str, Sequence[str]]
"""A server's own names, by kind (``tools``, ``prompts``)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem to fix."""

    kind: str
    """Stable snake_case word, for scripts."""
    server: str | None
    """The server's name; ``None`` if it concerns several."""
    text: str
    """The problem, its place, and what to do."""


def problems(config: GatewayConfig, listed: Mapping[str, Names]) -> list[Problem]:
    """All problems with names at the main endpoint, or without one at all others.

    Args:
        config: the whole configuration.
        listed: by server, for those that responded.
    """
    catalogs = [Catalog(one) for one in endpoints(config) if not (config.main_endpoint and one.name)]
    found: list[Problem] = []
    for server, names in listed.items():
        found += _filters(config, server, names.get("tools", ()))
        for catalog in catalogs:
            for kind, own in names.items() if server in catalog.entries else ():
                found += _visible(catalog, server, kind, own)
        if not any(names.values()):
            found.append(Problem("nothing_listed", server, "lists no tools, prompts or resources"))
        elif names.get("tools") and not any(map(config.servers[server].tools.allowing(), names["tools"])):
            found.append(Problem("nothing_offered", server, "has tools, and its filter (`tools`) leaves none of them"))
    found += [problem for catalog in catalogs for problem in _shared_names(catalog, listed)]
    return [*dict.fromkeys(found), *_shared_uris(config, listed), *_rate_limits(config, listed)]


def _visible(catalog: Catalog, server: str, kind: str, own: Sequence[str]) -> Iterator[Problem]:
    if kind == "resources":
        return
    one = kind.removesuffix("s")
    for name, times in Counter(own).items():
        if times > 1:
            yield Problem(
                "name_twice", server, f"lists the {one} {shown(name)} {times} times: clients call one of them"
            )
        visible = catalog.names.join(server, name)
        if not (is_served(name) and is_served(visible)):
            yield Problem(
                "name_not_served", server,
                f"its {one} {shown(name)} is neither listed nor callable: its name has characters that can't be seen, blanks "
                f"at an end, or with its prefix over {MAX_NAME_CHARS} characters. Have it renamed at the server",
            )  # fmt: skip
            continue
        if not catalog.entries[server].offers(kind, name):
            continue
        found = catalog.names.split(visible)
        if found is not None and found[0] != server:
            yield Problem(
                "name_hidden", server,
                f"its {one} {shown(name)} can't be reached: a name like this belongs to {found[0]}, by its prefix. "
                f"Give {server} a prefix",
            )  # fmt: skip
            continue
        if len(visible) > MAX_CLIENT_CHARS:
            yield Problem(
                "name_too_long", server,
                f"the {one} {shown(visible)} has {len(visible)} characters, and common clients take {MAX_CLIENT_CHARS}: "
                "set a shorter `prefix`, or leave it out",
            )  # fmt: skip
        if not _CLIENT_NAME.fullmatch(visible):
            strange = "".join(sorted(set(re.sub(r"[A-Za-z0-9_-]", "", visible))))
            yield Problem(
                "name_characters", server,
                f"the {one} {shown(visible)} has characters that some clients refuse: {shown(strange)}. They take letters, "
                "digits, _ and -",
            )  # fmt: skip


def _filters(config: GatewayConfig, server: str, tools: Sequence[str]) -> Iterator[Problem]:
    """Entries of the filter that match no tool: a typo, or a tool that was renamed."""
    hint = "matches no tool of this server: is there a typo, or was the tool renamed?"
    filters = config.servers[server].tools
    for key, exact in (("include", filters.include), ("exclude", filters.exclude)):
        for name in exact:
            if name not in tools:
                yield Problem("filter_matches_nothing", server, f"tools.{key} {shown(name)} {hint}")
    for key, patterns in (("includeRegex", filters.includeRegex), ("excludeRegex", filters.excludeRegex)):
        for pattern in patterns:
            if not any(map(matcher(pattern), filter(is_served, tools))):
                yield Problem("filter_matches_nothing", server, f"tools.{key} {shown(pattern)} {hint}")


def _shared_names(catalog: Catalog, listed: Mapping[str, Names]) -> Iterator[Problem]:
    """Of several servers without a prefix only one may have a name."""
    for kind in ("tools", "prompts"):
        owners: dict[str, list[str]] = {}
        for server in (name for name in listed if name in catalog.names.sharing):
            for own in dict.fromkeys(listed[server].get(kind, ())):
                if catalog.visible(kind, server, own) is not None:
                    owners.setdefault(own, []).append(server)
        for own, servers in owners.items():
            if len(servers) > 1:
                yield Problem(
                    "name_shared", None,
                    f"{' and '.join(servers)} both have the {kind.removesuffix('s')} {shown(own)}, and no prefix, so it is "
                    "neither listed nor callable: give one of them a `prefix`, or leave it out at one",
                )  # fmt: skip


def _shared_uris(config: GatewayConfig, listed: Mapping[str, Names]) -> Iterator[Problem]:
    """Without prefixes only one server may have a URI."""
    if config.resources != "unprefixed":
        return
    owners: dict[str, list[str]] = {}
    for server, names in listed.items():
        for uri in dict.fromkeys(names.get("resources", ())):
            owners.setdefault(uri, []).append(server)
    for uri, servers in owners.items():
        if len(servers) > 1:
            yield Problem(
                "uri_shared", None,
                f"{' and '.join(servers)} both have the resource {shown(uri)}, so it can't be read: "
                "set `resources: prefixed`",
            )  # fmt: skip


def _rate_limits(config: GatewayConfig, listed: Mapping[str, Names]) -> Iterator[Problem]:
    for number, limit in enumerate(config.rate_limits):
        tool, server = limit.match.tool, limit.match.server
        asked = [server] if server is not None else list(config.servers)
        if tool is None or not all(name in listed for name in asked):
            continue
        if not any(tool in listed[name].get("tools", ()) for name in asked):
            where = server if server is not None else "any server"
            yield Problem(
                "rate_limit_matches_nothing",
                server,
                f"rate_limits[{number}].match.tool {shown(tool)} is no tool of {where}",
            )


def shown(text: str) -> str:
    """Foreign text, safe to print: quoted, on one line, without control characters, truncated.

    >>> shown("a\\x1b[1mb")
    "'a\\\\x1b[1mb'"
    """
    return ascii(text) if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]!a}…"
