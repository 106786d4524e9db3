"""What lists leave out because the operator's own policies certainly deny it (``authorization.lists``).

Envoy judges calls; here is found out before what it will say, as far as that follows from what the gateway itself writes about
a call and what is proven of its caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from mcp_extproc.bounded import MIB, Bounded
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.endpoint import Endpoint
from mcp_extproc.config.envoy_message import Raw
from mcp_extproc.contract import (
    CERTIFICATE,
    CLAIMS,
    KEY_NAME,
    NAMESPACE,
    PRINCIPAL_NAMESPACE,
    SERVER_HEADER,
    TOKENS_NAMESPACE,
)
from mcp_extproc.gateway.authorization.items import Item
from mcp_extproc.gateway.catalog import Catalog
from mcp_extproc.gateway.facts import of_caller
from mcp_extproc.gateway.policy.rbac import ABSENT, UNKNOWN, UNTOLD, Call, Filter, Metadata, Reader, Told
from mcp_extproc.gateway.principal import ANONYMOUS, BY_CERTIFICATE, BY_KEY, BY_TOKEN, Principal
from mcp_extproc.mcp import methods
from mcp_extproc.mcp.names import MAX_NAME_CHARS, header_value

_TYPE: Final = "envoy.extensions.filters.http."
_RBAC: Final = "rbac.v3.RBAC"
_PER_ROUTE: Final = "rbac.v3.RBACPerRoute"

_CHANGES_NOTHING: Final = frozenset({_RBAC, "cors.v3.Cors", "csrf.v3.CsrfPolicy", "fault.v3.HTTPFault"})
"""Filters behind which a request is what it was in front of them."""

_LEAVES_FACTS: Final = frozenset({
    "jwt_authn.v3.JwtAuthentication", "local_ratelimit.v3.LocalRateLimit", "ratelimit.v3.RateLimit",
})  # fmt: skip
"""Filters that may add headers, and write metadata of their own. Of others, it is not known what they leave."""

_ABOUT_CALLER: Final = ("principal", "issuer")
"""Keys of the facts."""

_MAX_KINDS: Final = 1024
_MAX_PRINCIPALS: Final = 4096
_MAX_BYTES: Final = 8 * MIB
_MAX_VERDICTS: Final = 131_072
_MAX_VERDICTS_BYTES: Final = 32 * MIB
"""Of a worker."""
_ENTRY_BYTES: Final = 256


class Verdict(NamedTuple):
    """What filters say of a call before it is made."""

    denies: Told
    rule: str = ""
    """What certainly denies it: ``rbac:`` and the policy's name, as in the audit."""


NOT_DENIED: Final = Verdict(False)
CAN_NOT_TELL: Final = Verdict(None)


class Resolved:
    """What is resolved, for callers of all kinds at all endpoints of a worker: there may be many endpoints."""

    def __init__(self) -> None:
        self.verdicts: Bounded[tuple[Followed, Item, bool], Verdict] = Bounded(_MAX_VERDICTS, _MAX_VERDICTS_BYTES)
        self.kinds: Bounded[tuple[Policies, tuple[Told, ...]], Followed] = Bounded(_MAX_KINDS, _MAX_BYTES)
        self.principals: Bounded[tuple[Policies, int], tuple[Principal, Followed]] = Bounded(
            _MAX_PRINCIPALS, _MAX_BYTES
        )


def followed(
    config: GatewayConfig, endpoint: Endpoint, catalog: Catalog, resolved: Resolved | None = None
) -> Policies | None:
    """The policies that lists of an endpoint follow; ``None`` where there are none.

    Args:
        config: has the operator's filters.
        endpoint: says whether they are followed.
        catalog: of the endpoint.
        resolved: where it is kept; ``None`` for stores of its own.
    """
    return Policies(config, catalog, resolved or Resolved()) if endpoint.policies else None


class Policies:
    """The operator's policies for the calls of one endpoint.

    Args:
        config: has the filters.
        catalog: of the endpoint.
        resolved: where what they say is kept.
    """

    def __init__(self, config: GatewayConfig, catalog: Catalog, resolved: Resolved) -> None:
        namespaces = (NAMESPACE, *config.more_namespaces)
        self._reader = Reader(namespaces, _ABOUT_CALLER)
        self._by_server: Mapping[str, tuple[Filter, ...]] = {
            name: tuple(_of_server(self._reader, config, name)) for name in catalog.entries
        }
        self._namespaces = namespaces
        self._catalog = catalog
        self._of_kind, self._known, self.verdicts = resolved.kinds, resolved.principals, resolved.verdicts

    def of(self, principal: Principal) -> Followed:
        """What they deny to a caller; the same value for callers of one kind."""
        # By identity: two that are equal may have different claims.
        known = self._known.get((self, id(principal)))
        if known is not None and known[0] is principal:
            return known[1]
        about = Call(_said_of(principal, self._namespaces))
        kind = tuple(test(about) for test in self._reader.about_callers)
        found = self._of_kind.get((self, kind))
        if found is None:
            found = Followed(self, kind)
            self._of_kind.keep((self, kind), found, _ENTRY_BYTES + 16 * len(kind))
        self._known.keep((self, id(principal)), (principal, found), _ENTRY_BYTES + 4 * len(str(principal.claims)))
        return found

    def judge(self, item: Item, kind: Sequence[Told], *, is_template: bool) -> Verdict:
        """What they say of the use of an item by callers of a kind."""
        filters = self._by_server.get(item.server, ())
        if not filters:
            return NOT_DENIED
        call = self._call(item, kind, is_template=is_template)
        found = NOT_DENIED
        for one in filters:
            told = one.denies(call)
            if told:
                return Verdict(True, f"rbac:{one.policy(call)}")
            found = CAN_NOT_TELL if told is None else found
        return found

    def _call(self, item: Item, kind: Sequence[Told], *, is_template: bool) -> Call:
        method = methods.USED_BY[item.kind]
        facts: dict[str, Any] = {
            "method": method,
            "server": item.server,
            "tool": ABSENT,
            "prompt": ABSENT,
            "params": self._params(item, is_template=is_template),
        }
        fact = methods.REQUESTS[method].fact
        if fact is not None:
            facts[fact] = item.name
        headers = {":method": "POST", "mcp-method": method, SERVER_HEADER: item.server}
        if not is_template:
            headers["mcp-name"] = header_value(item.name)
        return Call(dict.fromkeys(self._namespaces, facts), headers, kind)

    def _params(self, item: Item, *, is_template: bool) -> Mapping[str, Any]:
        """As clients write them: where they may do so in several ways, that can't be told."""
        if item.kind == "resources":
            uris = self._catalog.uris
            return {"uri": UNTOLD if is_template or uris.may_change else item.name[: MAX_NAME_CHARS + 1]}
        if self._catalog.bare_names:
            return {"name": UNTOLD}
        visible = self._catalog.visible(item.kind, item.server, item.name)
        return {"name": UNTOLD if visible is None else visible[: MAX_NAME_CHARS + 1]}


class Followed:
    """What policies deny to callers of one kind.

    Args:
        policies: all of them.
        kind: of the callers.
    """

    def __init__(self, policies: Policies, kind: tuple[Told, ...]) -> None:
        self._policies = policies
        self._kind = kind

    def verdict(self, item: Item, *, is_template: bool = False) -> Verdict:
        """What they say of the use of an item.

        Args:
            item: a server's.
            is_template: whether its name is a template of URIs, which nobody reads as it is.
        """
        verdicts, key = self._policies.verdicts, (self, item, is_template)
        found = verdicts.get(key)
        if found is None:
            found = self._policies.judge(item, self._kind, is_template=is_template)
            verdicts.keep(key, found, _ENTRY_BYTES + len(item.name))
        return found


def _of_server(reader: Reader, config: GatewayConfig, server: str) -> Iterator[Filter]:
    """The filters that judge calls to a server, as far as it is known what reaches them."""
    overrides = {**config.envoy.typed_per_filter_config, **config.servers[server].typed_per_filter_config}
    only_facts = False
    for item in config.envoy.http_filters:
        name, kind = str(item["name"]), _kind(item)
        if kind == _RBAC:
            override = overrides.get(name)
            if override is None:
                yield reader.filter(_typed(item), only_facts=only_facts)
            elif _kind_of(override) == _PER_ROUTE:
                yield reader.per_route(override, only_facts=only_facts)
            else:
                yield UNKNOWN
        elif kind in _LEAVES_FACTS and not _chooses_routes((item, overrides.get(name))):
            only_facts = True
            yield UNKNOWN
        elif kind not in _CHANGES_NOTHING:
            # It may judge itself, too.
            yield UNKNOWN
            return


def _kind(item: Raw) -> str:
    return _kind_of(_typed(item))


def _typed(item: Raw) -> Any:
    return item.get("typed_config", item.get("typedConfig"))


def _kind_of(config: Any) -> str:
    """The type of a message among those of Envoy's HTTP filters, or else what is none of them."""
    kind = str(config.get("@type") if isinstance(config, Mapping) else None).rpartition("/")[2]
    return kind.removeprefix(_TYPE) if kind.startswith(_TYPE) else ""


def _chooses_routes(data: object) -> bool:
    """Whether a filter may have Envoy choose another route."""
    if isinstance(data, Mapping):
        return any("clear_route_cache" in key or "clearRouteCache" in key for key in data) or _chooses_routes(
            tuple(data.values())
        )
    return isinstance(data, Sequence) and not isinstance(data, str) and any(map(_chooses_routes, data))


def _said_of(principal: Principal, namespaces: Iterable[str]) -> Metadata:
    """What metadata says of a caller. Where it may have brought more than what names it, the rest can't be told."""
    known = of_caller(principal)
    is_known = principal == ANONYMOUS or principal.proven in (BY_TOKEN, BY_KEY, BY_CERTIFICATE)
    unsaid = ABSENT if is_known else UNTOLD
    facts = {key: unsaid if (value := getattr(known, key)) is None else value for key in _ABOUT_CALLER}
    said: dict[str, Mapping[str, Any]] = dict.fromkeys(namespaces, facts)
    match principal.proven:
        case proven if proven == BY_TOKEN:
            said[TOKENS_NAMESPACE] = {CLAIMS: principal.claims}
        case proven if proven == BY_KEY:
            said[PRINCIPAL_NAMESPACE] = {KEY_NAME: principal.subject}
        case proven if proven == BY_CERTIFICATE:
            said[PRINCIPAL_NAMESPACE] = {CERTIFICATE: principal.subject}
    return said
