"""What can be as it is written, and is hardly meant: a sentence for each, which begins with its place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from mcp_extproc.config.authentication import Authentication, Existing
from mcp_extproc.config.authorization import Authorization, Rule, Selector
from mcp_extproc.config.config_error import field, quoted
from mcp_extproc.config.endpoint import endpoints
from mcp_extproc.config.model import GatewayConfig, separator_of, start_of
from mcp_extproc.config.virtual_servers import VirtualServer, is_below

_Place = tuple[str | int, ...]

_UNMISTAKABLE = 2
"""Characters of a separator behind which a prefix is one: `github_search` may well be a server's own name."""


def hints(config: GatewayConfig) -> Iterator[str]:
    """All of them."""
    for section, one in config.authentications():
        yield from (f"{field(section)}.{sentence}" for sentence in one.warnings())
    yield from about_credentials(config)
    starts = _starts(config)
    if config.authorization is not None:
        yield from _about_rules(("authorization",), config.authorization, starts)
    for index, entry in enumerate(config.vetting):
        yield from _prefixed(("vetting", index, "tools"), entry.tools, _concerned(entry.servers, starts))
    yield from about_hosts(config)
    for name, virtual in config.virtual_servers.items():
        place: _Place = ("virtual_servers", name)
        if not virtual.offered:
            yield f"{field(place)} offers nothing: name servers, each with `all` or with tools, prompts or resources"
        for server, offer in virtual.offered.items():
            own = {server: starts[server]} if server in starts else {}
            yield from _prefixed((*place, "servers", server, "tools"), offer.tools, own)
            yield from _prefixed((*place, "servers", server, "prompts"), offer.prompts, own)
        if virtual.authorization is not None:
            yield from _about_rules((*place, "authorization"), virtual.authorization, starts)


def about_hosts(config: GatewayConfig) -> Iterator[str]:
    """Those whose requests are all another virtual server's, while its own has further hosts: without them it is an error."""
    before: defaultdict[str, list[tuple[str, VirtualServer]]] = defaultdict(list)
    for name, virtual in config.virtual_servers.items():
        path = virtual.path_of(name, config.listen.path)
        for index, host in enumerate(virtual.domains):
            for other, earlier in before[path]:
                # One without hosts would have all requests, which is an error.
                patterns = [one for one in earlier.domains if is_below(host, one)]
                if patterns and earlier.headers.items() <= virtual.headers.items():
                    yield (
                        f"{field(('virtual_servers', name, 'hosts', index))}: requests to {host} are"
                        f" those of {quoted(other)} ({patterns[0]}), which stands first: put this one in front of it,"
                        " or leave the host out of one of them"
                    )
                    break
        before[path].append((name, virtual))


def about_credentials(config: GatewayConfig) -> Iterator[str]:
    """Those that say what servers get."""
    for name, server in config.servers.items():
        place = field(("servers", name, "credentials"))
        yield from (f"{place}.{sentence}" for sentence in server.credentials.warnings())
        yield from (f"{place}.{sentence}" for sentence in _one_name_for_several(config, name))


def _one_name_for_several(config: GatewayConfig, server: str) -> Iterator[str]:
    """Claims that say who calls, where callers of several kinds may be called the same."""
    claims = config.servers[server].credentials.claims
    if not claims:
        return
    served = [one.authentication for one in endpoints(config) if server in one.servers]
    if served and not any(served):
        yield "claims: no caller has any, as nothing says who calls: configure `authentication`"
        return
    sections = [(place, one) for place, one in config.authentications() if any(one is known for known in served)]
    names = {"sub", *(one.oauth.principal_claim for _, one in sections if one.oauth is not None)}
    issuers = dict.fromkeys(issuer for place, one in sections for issuer in _issuers(place, one))
    # Callers without claims have no other one than `sub`.
    others = [of for place, one in sections for of in _without_claims(place, one)]
    told_apart = any(one.claim == "iss" for one in claims)
    for index, one in enumerate(claims):
        of = [*([] if told_apart else issuers), *(others if one.claim == "sub" else [])]
        if one.claim in names and len(of) > 1:
            add = " give it their `iss` in a second header, or" if issuers and not told_apart else ""
            yield (
                f"claims[{index}]: who has the same {one.claim} by {' and by '.join(of)} is one user for the server:{add} have"
                " these names assigned in one place"
            )


def _issuers(place: Sequence[str], section: Authentication) -> Iterator[str]:
    """Who gives callers names, and is in their claim `iss`."""
    if section.oauth is not None:
        yield from (one.issuer for one in section.oauth.issuers)
    if section.existing is not None and section.existing.claims:
        yield from _of_existing(place, section.existing)


def _without_claims(place: Sequence[str], section: Authentication) -> Iterator[str]:
    """Methods whose callers have a name and no claims."""
    found = {"api_keys": section.api_keys, "mtls": section.mtls, "external": section.external}
    yield from (field((*place, name)) for name, one in found.items() if one is not None)
    if section.existing is not None and not section.existing.claims:
        yield from _of_existing(place, section.existing)


def _of_existing(place: Sequence[str], existing: Existing) -> Iterator[str]:
    where = field((*place, "existing", "issuer"))
    yield from (f"one issuer in {where}", f"another in {where}") if existing.issuer else (field((*place, "existing")),)


def _about_rules(place: _Place, authorization: Authorization, starts: dict[str, str]) -> Iterator[str]:
    last: int | None = None
    for index, rule in enumerate(authorization.rules):
        at = (*place, "rules", index)
        if last is not None:
            yield f"{field(at)} never decides: rules[{last}] before it matches everything"
            return
        last = index if _matches_everything(rule) else None
        servers = _concerned(rule.servers, starts)
        yield from _prefixed((*at, "tools"), rule.tools, servers)
        yield from _prefixed((*at, "prompts"), rule.prompts, servers)


def _matches_everything(rule: Rule) -> bool:
    return not rule.model_fields_set - {"name", "action"}


def _prefixed(place: _Place, selectors: Sequence[Selector], starts: dict[str, str]) -> Iterator[str]:
    for index, selector in enumerate(selectors):
        text = selector.text.removeprefix("^") if selector.how == "regex" else selector.text
        for name, start in starts.items():
            if text.startswith(start):
                yield (
                    f"{field((*place, index))} begins with the prefix of {quoted(name)}: names here are the server's own,"
                    f" without {start}"
                )


def _concerned(selectors: Sequence[Selector], starts: dict[str, str]) -> dict[str, str]:
    matchers = [selector.matcher() for selector in selectors]
    return {name: start for name, start in starts.items() if not matchers or any(one(name) for one in matchers)}


def _starts(config: GatewayConfig) -> dict[str, str]:
    """What names for clients begin with, by server."""
    starts = {
        name: start_of(name, server, config.separator)
        for name, server in config.servers.items()
        if len(separator_of(server, config.separator)) >= _UNMISTAKABLE
    }
    return {name: start for name, start in starts.items() if start}
