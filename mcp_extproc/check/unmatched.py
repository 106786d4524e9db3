"""Rules, entries of ``vetting`` and policies that are about nothing that servers have: what they are to protect is not
protected then. Plain functions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from mcp_extproc.check.tool_names import Names, Problem, shown
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.authorization import Authorization, Kind, Selector, selected_by
from mcp_extproc.config.config_error import field
from mcp_extproc.config.endpoint import endpoints
from mcp_extproc.config.envoy_message import Raw
from mcp_extproc.contract import NAMESPACE
from mcp_extproc.gateway.catalog import Catalog
from mcp_extproc.gateway.policy.rbac import AskedText, texts_asked
from mcp_extproc.mcp.names import is_served

_HINT: Final = "is there a typo, or was it renamed at the server?"

_COMPARED: Final = 100
_COMPARED_CHARS: Final = 128
_DIFFERENT_CHARS: Final = 3

_RULE: Final = "rule_matches_nothing"
_VETTING: Final = "vetting_matches_nothing"
_POLICY: Final = "policy_matches_nothing"

_Place = tuple[str | int, ...]


def problems(config: GatewayConfig, whole: Mapping[str, Names]) -> list[Problem]:
    """All of them.

    Args:
        config: the whole configuration.
        whole: what servers list, by server, for those whose lists are known to have all. Where another server is meant as
            well, nothing is said: it may have what is named. Nor is of resources, which may be there without standing in a
            list.
    """
    return [*_of_rules(config, whole), *_of_vetting(config, whole), *_of_policies(config, whole)]


def _of_rules(config: GatewayConfig, whole: Mapping[str, Names]) -> Iterator[Problem]:
    for place, authorization, servers in _authorizations(config):
        for index, rule in enumerate(authorization.rules):
            named: dict[Kind, Sequence[Selector]] = {"tools": rule.tools, "prompts": rule.prompts}
            yield from _unmatched(_RULE, (*place, "rules", index), rule.servers, named, servers, whole)


def _of_vetting(config: GatewayConfig, whole: Mapping[str, Names]) -> Iterator[Problem]:
    for index, entry in enumerate(config.vetting):
        named: dict[Kind, Sequence[Selector]] = {"tools": entry.tools}
        yield from _unmatched(_VETTING, ("vetting", index), entry.servers, named, config.servers, whole)


def _authorizations(config: GatewayConfig) -> Iterator[tuple[_Place, Authorization, Collection[str]]]:
    """All sections of rules: their places, and the servers that they are about."""
    if config.authorization is not None:
        yield ("authorization",), config.authorization, config.servers
    for name, virtual in config.virtual_servers.items():
        if virtual.authorization is not None:
            yield ("virtual_servers", name, "authorization"), virtual.authorization, virtual.offered


def _unmatched(
    problem: str,
    place: _Place,
    about: Sequence[Selector],
    named: Mapping[Kind, Sequence[Selector]],
    servers: Collection[str],
    whole: Mapping[str, Names],
) -> Iterator[Problem]:
    """Selectors that select nothing.

    Args:
        problem: its kind.
        place: of the rule or entry.
        about: which of the servers it concerns; none for all.
        named: what it concerns of them.
        servers: by name, those that it may concern.
        whole: as of :func:`problems`.
    """
    yield from _selecting_nothing(problem, (*place, "servers"), about, servers, "servers")
    concerned = list(filter(selected_by(about or None), servers))
    if not all(server in whole for server in concerned):
        return
    for kind, selectors in named.items():
        names = _names(concerned, (kind,), whole)
        yield from _selecting_nothing(problem, (*place, kind), selectors, names, kind)


def _selecting_nothing(
    problem: str, place: _Place, selectors: Sequence[Selector], names: Collection[str], what: str
) -> Iterator[Problem]:
    if not names:
        return  # Whatever is named is for what may come.
    for number, one in enumerate(selectors):
        if not any(map(one.matcher(), names)):
            yield Problem(problem, None, _said((*place, number), one.text, what, names))


def _names(servers: Collection[str], kinds: Collection[Kind], whole: Mapping[str, Names]) -> set[str]:
    """What servers list, by their own names."""
    found = (name for server in servers for kind in kinds for name in whole[server].get(kind, ()))
    return set(filter(is_served, found))


def _comparable(text: str, names: Collection[str]) -> list[str]:
    """Names that it may be a misspelling of, as many as can be compared in no time: servers choose how many and how long."""
    if len(text) > _COMPARED_CHARS:
        return []
    return sorted(name for name in names if abs(len(name) - len(text)) <= _DIFFERENT_CHARS)[:_COMPARED]


def _said(place: _Place, text: str, what: str, names: Collection[str]) -> str:
    near = get_close_matches(text, _comparable(text, names), n=1, cutoff=0.7)
    hint = f"did you mean {shown(near[0])}?" if near else _HINT
    return f"{field(place)} {shown(text)} matches none of the {what}: {hint}"


# -- Policies -------------------------------------------------------------------------------------------------------------


def _of_policies(config: GatewayConfig, whole: Mapping[str, Names]) -> Iterator[Problem]:
    """What RBAC filters ask of the tool, the prompt and the server that is called, as far as it is by metadata."""
    if "pass_through" in config.model_fields_set:
        return  # Servers that are not asked here have their tools judged, too.
    namespaces = {NAMESPACE, *config.more_namespaces}
    for place, message, servers in _messages(config):
        for asked in texts_asked(message, place) if _is_rbac(message) else ():
            if asked.path[0] not in namespaces:
                continue
            what, names = _candidates(config, asked, servers, whole)
            if names and not any(map(asked.matches, names)):
                yield Problem(_POLICY, None, _said(_of_policy(asked.place), asked.text, what, names))


def _messages(config: GatewayConfig) -> Iterator[tuple[_Place, Raw, Collection[str]]]:
    """The filters for calls, and what routes have instead: place, message, and the servers whose calls they judge."""
    for index, item in enumerate(config.envoy.http_filters):
        for key in ("typed_config", "typedConfig"):
            yield ("envoy", "http_filters", index, key), item.get(key, {}), config.servers
    for name, message in config.envoy.typed_per_filter_config.items():
        yield ("envoy", "typed_per_filter_config", name), message, config.servers
    for server, one in config.servers.items():
        for name, message in one.typed_per_filter_config.items():
            yield ("servers", server, "typed_per_filter_config", name), message, (server,)


def _is_rbac(message: Mapping[str, Any]) -> bool:
    return str(message.get("@type")).endswith((".rbac.v3.RBAC", ".rbac.v3.RBACPerRoute"))


def _candidates(
    config: GatewayConfig, asked: AskedText, servers: Collection[str], whole: Mapping[str, Names]
) -> tuple[str, Collection[str]]:
    """What a value in metadata may be, and what that is called; nothing where it can't be told."""
    path = asked.path[1:]
    if path == ("server",):
        return "servers", config.servers
    if not all(server in whole for server in servers):
        return "", ()
    match path:
        case ("tool",):
            return "tools", _names(servers, ["tools"], whole)
        case ("prompt",):
            return "prompts", _names(servers, ["prompts"], whole)
        case ("params", "name"):
            return "names that clients use", _visible(config, servers, whole)
    return "", ()


def _visible(config: GatewayConfig, servers: Collection[str], whole: Mapping[str, Names]) -> set[str]:
    """Tools and prompts, by all names that clients may use."""
    kinds: tuple[Kind, ...] = ("tools", "prompts")
    found = _names(servers, kinds, whole) if config.bare_names else set()
    for catalog in map(Catalog, endpoints(config)):
        for server in filter(catalog.entries.__contains__, servers):
            visible = (
                catalog.visible(kind, server, own) for kind in kinds for own in _names((server,), (kind,), whole)
            )
            found.update(name for name in visible if name is not None)
    return found


def _of_policy(place: Sequence[str | int]) -> _Place:
    """The place of the policy around a matcher, or else of the matcher."""
    end = place.index("policies") + 2 if "policies" in place else len(place)
    return tuple(place[:end])
