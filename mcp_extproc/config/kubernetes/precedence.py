"""Which of several MCPRoutes has a request that more than one would take."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Any

from mcp_extproc.config.config_error import quoted
from mcp_extproc.config.kubernetes.attached import AttachedRoute
from mcp_extproc.config.kubernetes.reading import Reading

Described = tuple[AttachedRoute, Mapping[str, Any]]
"""A route, and its virtual server."""


def in_order(reading: Reading, routes: Sequence[Described]) -> list[Described]:
    """The routes, so that the first that matches a request is the one that has it: by an exact host name before a longer and
    a shorter wildcard, then by more headers, then by the order of the file (Gateway API, HTTPRouteRule, precedence). This is
    decided host by host: where that leaves no order of the routes, it is a problem."""
    before = _before([virtual for _, virtual in routes])
    sorter = TopologicalSorter({number: before[number].keys() for number in range(len(routes))})
    try:
        sorter.prepare()
    except CycleError as error:
        # Each comes before the next, the last is the first again.
        cycle: list[int] = error.args[1]
        told = [
            f"{routes[first][0].document} has to come before {routes[second][0].document} for"
            f" {quoted(before[second][first])}"
            for first, second in pairwise(cycle)
        ]
        reading.refuse(
            routes[max(cycle)][0].document,
            ["spec", "hostnames"],
            f"no order of the routes gives each host to the one that names it most exactly: {', and '.join(told)}; give one"
            " of these hosts a route of its own",
        )
        return list(routes)
    order: list[Described] = []
    ready: list[tuple[tuple[int, int, int], int]] = []
    while sorter.is_active():
        for number in sorter.get_ready():
            heapq.heappush(ready, (_rank(routes[number][1]), number))
        _, chosen = heapq.heappop(ready)
        order.append(routes[chosen])
        sorter.done(chosen)
    return order


def _rank(virtual: Mapping[str, Any]) -> tuple[int, int, int]:
    """What decides where no host does."""
    hosts = virtual.get("hosts", [])
    exact = [len(host) for host in hosts if not host.startswith("*")]
    kind = 0 if exact else 1 if hosts else 2
    return kind, -max(exact or map(len, hosts), default=0), -len(virtual.get("headers", {}))


def _before(virtual: Sequence[Mapping[str, Any]]) -> dict[int, dict[int, str]]:
    """By the number of each: which ones have to come before it, each with a host for which it does."""
    headers = [{name.lower(): wanted for name, wanted in one.get("headers", {}).items()} for one in virtual]
    by_host: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for number, one in enumerate(virtual):
        for host in one.get("hosts") or [_ANY]:
            by_host[one["path"], host.lower().removesuffix(".")].append(number)
    found: dict[int, dict[int, str]] = defaultdict(dict)
    for path, host in by_host:
        exactness: dict[int, int] = {}
        for distance, pattern in enumerate(_patterns(host)):
            for number in by_host.get((path, pattern), ()):
                exactness.setdefault(number, distance)
        takers: list[int] = []
        for candidate in sorted(exactness, key=lambda number: (exactness[number], -len(headers[number]), number)):
            for taker in takers:
                if taker not in found[candidate] and not _are_apart(headers[taker], headers[candidate]):
                    found[candidate][taker] = host
                if headers[taker].items() <= headers[candidate].items():
                    break  # Which leaves it nothing.
            else:
                # Those that don't name this host are compared with each other at the hosts that they name.
                takers += [candidate] if exactness[candidate] == 0 else []
    return found


_ANY = ""
"""The host of those that name none. By their rank they come behind all others."""


def _patterns(host: str) -> Iterator[str]:
    """What a host name, or all names below one, fall under, the most exact first.

    >>> list(_patterns("a.b.example")), list(_patterns("*.example"))
    (['a.b.example', '*.b.example', '*.example'], ['*.example'])
    """
    yield host
    rest = host.removeprefix("*.")
    while "." in rest:
        rest = rest.partition(".")[2]
        yield f"*.{rest}"


def _are_apart(headers: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether no request has the headers of both."""
    return any(
        isinstance(one, str) and isinstance(other := others.get(name, one), str) and one != other
        for name, one in headers.items()
    )
