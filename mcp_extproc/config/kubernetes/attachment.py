"""To which listeners of a Gateway routes are attached, and by which host names clients reach them there.

Source: Gateway API, "Route attachment"; kubernetes-sigs/gateway-api ``apis/v1/httproute_types.go`` (hostnames).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mcp_extproc.config.kubernetes.attached import Hosts
from mcp_extproc.config.kubernetes.documents import Document, FieldPath
from mcp_extproc.config.kubernetes.gateway_api import Listener
from mcp_extproc.config.kubernetes.reading import Reading
from mcp_extproc.config.virtual_servers import is_below


@dataclass(frozen=True, slots=True)
class Listeners:
    """Of a route: those of one port, which all routes of a file share."""

    gateway: Document
    numbers: tuple[int, ...]

    @property
    def each(self) -> list[Listener]:
        """In the Gateway's order."""
        return [self.gateway.object.spec.listeners[number] for number in self.numbers]

    @property
    def hostnames(self) -> tuple[str, ...]:
        """The names of all; none where one of them takes any."""
        names = [one.hostname for one in self.each]
        return () if None in names else tuple(name for name in names if name is not None)


def listeners_of(reading: Reading, routes: Sequence[Document]) -> list[Listeners | None]:
    """Where clients connect, route by route; ``None`` if the file has no Gateway."""
    attached = [_attached(reading, route) for route in routes]
    first = next((found[0] for found in attached if found), None)
    if first is None:
        return [None for _ in routes]
    served = []
    for route, found in zip(routes, attached, strict=True):
        here = [number for gateway, number in found if gateway == first[0] and _port(gateway, number) == _port(*first)]
        for gateway, number in found:
            if gateway != first[0] or number not in here:
                reading.warn(
                    gateway,
                    ["spec", "listeners", number],
                    "has no effect: routes are served at the port of the first listener that they are attached to",
                )
        if found and not here:
            reading.refuse(
                route,
                ["spec", "parentRefs"],
                f"is attached to another port than {routes[0]}: give each a file of its own",
            )
        served.append(Listeners(first[0], tuple(here)) if here else None)
    _check_alike(reading, of_all(served))
    return served


def of_all(listeners: Sequence[Listeners | None]) -> Listeners | None:
    """Those that any route is attached to."""
    attached = [one for one in listeners if one is not None]
    if not attached:
        return None
    return Listeners(attached[0].gateway, tuple(sorted({number for one in attached for number in one.numbers})))


def _port(gateway: Document, number: int) -> int:
    port: int = gateway.object.spec.listeners[number].port
    return port


def _attached(reading: Reading, route: Document) -> list[tuple[Document, int]]:
    """The listeners that a route is attached to, by their Gateways and numbers."""
    if not any(True for _ in reading.documents.of_kind("Gateway")):
        return []
    found: list[tuple[Document, int]] = []
    for index, parent in enumerate(route.object.spec.parent_refs):
        path: FieldPath = ["spec", "parentRefs", index]
        local = reading.is_local(route, path, parent.namespace)
        gateway = reading.named(route, [*path, "name"], "Gateway", parent.name) if local else None
        if gateway is None:
            continue
        numbers = [
            number
            for number, listener in enumerate(gateway.object.spec.listeners)
            if parent.section_name in (None, listener.name) and parent.port in (None, listener.port)
        ]
        if not numbers:
            reading.refuse(route, path, f"{gateway} has no such listener: correct sectionName or port")
        found += [(gateway, number) for number in numbers if (gateway, number) not in found]
    return found


def _check_alike(reading: Reading, served: Listeners | None) -> None:
    """One port is for TLS, or is not, whatever its listeners are called."""
    if served is None:
        return
    for number in served.numbers[1:]:
        gateway = served.gateway
        first, other = (gateway.object.spec.listeners[index] for index in (served.numbers[0], number))
        if first.protocol != other.protocol:
            reading.refuse(
                gateway,
                ["spec", "listeners", number, "protocol"],
                f"another one than that of listener {first.name} at the same port: use one for both",
            )


def hosts_of(reading: Reading, route: Document, listeners: Listeners | None) -> Hosts:
    """By which names clients reach a route: its own that a listener has, too. The listeners' count where it has none."""
    own, allowed = route.object.spec.hostnames, () if listeners is None else listeners.hostnames
    if listeners is None or not allowed:
        return Hosts(own, route, ["spec", "hostnames"])
    if not own:
        return Hosts(allowed, listeners.gateway, ["spec", "listeners", listeners.numbers[0], "hostname"])
    names: list[str] = []
    for index, name in enumerate(own):
        both = [name if is_below(name, one) else one for one in allowed if is_below(name, one) or is_below(one, name)]
        if not both:
            reading.refuse(
                route,
                ["spec", "hostnames", index],
                f"no listener of {listeners.gateway} that the route is attached to has this name: leave it out, or correct it",
            )
        names += [one for one in both if one not in names]
    return Hosts(tuple(names), route, ["spec", "hostnames"])
