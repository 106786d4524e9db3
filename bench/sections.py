"""Sections of a run: each compares some systems under some loads, with its own processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.rounds import REFERENCES, Plan, Scenario
from bench.systems import TRANSPORTS

COMPARED = ("plain", "mcp", "router", "gateway")
"""Systems that can be selected; the last one represents this gateway on every selected transport."""

PLANNED = (
    "calls", "logged", "events", "large", "read", "pass-through", "lists", "policy", "authentication", "telemetry", "workers",
    "run", "stdio",
)  # fmt: skip
"""Sections that consist of rounds."""

_STDIO = ("http", "stdio", "shared", "direct")
"""One server on its two transports, and on stdio without gateway. All are compared with `http`."""

_AUTHENTICATING = ("again", "jwt", "token", "tokens", "methods", "key")
"""This gateway with other credentials and methods. All are compared with it without any, and so is a second one without: two
processes of the same differ, too."""

_MORE = 2
"""How many more rounds there are where a difference is small."""

_TELLING = ("quiet", "quiet-again", "metrics", "traces-1", "traces", "audit", "telling")
"""`run` telling others of calls. All are compared with the first two, which tell nobody."""

_LONGER = 3
"""How much longer their slices are: what is done before calls, and once for many, is shared by more of them."""

_SETTLE = 1.5
"""Seconds. Envoy holds records back for a tenth of one, and the collector spans for one."""

_LARGE_RESULT = 65_536
"""Characters of padding in a large result."""

_RESULTS = (0, _LARGE_RESULT)
"""The same of a server on two transports."""

_LARGE = (
    Scenario(65_536, 4), Scenario(65_536, 16), Scenario(0, 16, result=65_536), Scenario(0, 16, result=1_048_576),
)  # fmt: skip
"""Large calls, each also through the prototype, which shows what they take before anything is read."""

_READ = ("untrusted", "resources")
"""This gateway with servers whose answers in JSON it reads."""

_INSPECTED = (65_536, 1_048_576)
"""Characters of padding in arguments that pass through."""

_FEW, _MANY = 3, 30
"""Number of servers whose lists are merged."""

_LISTED = 50
"""Number of tools of each server."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """The user's selection."""

    sections: tuple[str, ...]
    systems: tuple[str, ...]
    """A subset of `COMPARED`."""
    transports: tuple[str, ...]
    connections: tuple[int, ...]
    content: tuple[int, ...]
    seconds: float
    rounds: int


def plans(wishes: Wishes) -> dict[str, Plan]:
    """The plans by name, in the order of execution."""
    found: dict[str, Plan] = {}
    gateways = [TRANSPORTS[name] for name in wishes.transports] if "gateway" in wishes.systems else []
    others = [system for system in wishes.systems if system != "gateway"]
    busiest = max(wishes.connections)
    small = [Scenario(0, count) for count in wishes.connections]

    def add(
        name: str,
        systems: Sequence[str],
        *scenarios: Scenario,
        servers: int = _FEW,
        tools: int = 2,
        references: tuple[str, ...] = REFERENCES,
        subject: str = "",
        settle: float = 0.0,
        more: int = 1,
        longer: int = 1,
    ) -> None:
        names = tuple(f"s{number}" for number in range(1, servers + 1))
        if systems:
            seconds, rounds = wishes.seconds * longer, wishes.rounds * more
            found[name] = Plan(tuple(systems), scenarios, seconds, rounds, names, tools, references, subject, settle)

    for section in wishes.sections:
        if section == "calls":
            scenarios = [Scenario(size, count) for size in wishes.content for count in wishes.connections]
            strict = ["router-strict"] if "router" in others else []
            floor = ["floor"] if gateways else []
            add("calls", [*others, *strict, *(each.gateway for each in gateways), *floor], *scenarios)
        elif section == "events":
            own = [name for each in gateways for name in (each.gateway, each.events, each.stateless)]
            scenarios = [Scenario(0, count, "event") for count in wishes.connections]
            floor = ["floor-events", "floor-stateless"] if gateways else []
            add("events", [*_without(others, "mcp"), *own, *floor], *scenarios, Scenario(0, busiest, "events"))
        elif section == "logged":
            own = [f"{name}-logged" for name in ("router", "gateway") if name in wishes.systems]
            own += ["floor-logged"] if gateways else []
            add("logged", own, *small, references=("router-logged",), subject=" with access logs")
        elif section == "large":
            floor = ["floor"] if gateways else []
            add("large", [*_without(others, "mcp"), *floor, *(each.gateway for each in gateways)], *_LARGE)
        elif section == "read" and gateways:
            systems = [*_without(others, "mcp", "plain"), "gateway", *_READ]
            scenarios = [*small, Scenario(0, busiest, result=_LARGE_RESULT)]
            add("read", systems, *scenarios, references=("router", "gateway"), subject=" answered in JSON")
        elif section == "pass-through" and gateways:
            systems = [*_without(others, "router"), "pass-through"]
            scenarios = [*small, *(Scenario(size, busiest) for size in _INSPECTED)]
            add("pass-through", systems, *scenarios, references=("plain", "mcp"), subject=" of one server, inspected")
        elif section == "lists":
            systems = [*_without(others, "mcp", "plain"), *(each.gateway for each in gateways)]
            for servers in (_FEW, _MANY):
                add(f"lists of {servers}", systems, Scenario(0, 1, "list"), servers=servers, tools=_LISTED)
        elif section == "policy" and gateways:
            judged = ["router", "router-policy"] if "router" in others else []
            systems = [*judged, "gateway", "again", "policy"]
            references = ("router", "gateway")
            add("policy", systems, Scenario(0, busiest), references=references, subject=" under a policy", more=_MORE)
        elif section == "authentication" and gateways:
            subject = " with authentication"
            systems = ["gateway", *_AUTHENTICATING]
            add("authentication", systems, *small, references=("gateway",), subject=subject, more=_MORE)
        elif section == "telemetry" and gateways:
            systems = [*_without(others, "mcp", "plain"), *_TELLING]
            references = ("router", "quiet")
            subject = " with telemetry"
            add(
                "telemetry", systems, Scenario(0, busiest), references=references, subject=subject,
                settle=_SETTLE, longer=_LONGER,
            )  # fmt: skip
        elif section == "workers" and gateways:
            own = [name for each in gateways for name in (each.gateway, each.workers)]
            subject = " with one and two workers"
            add("workers", own, Scenario(0, busiest), references=(own[0],), subject=subject)
        elif section == "run" and gateways:
            systems = [*_without(others, "mcp", "plain"), "gateway", "run", "run-no-page"]
            add("run", systems, *small, references=("router", "gateway"), subject=" through `run`")
        elif section == "stdio" and gateways:
            scenarios = [Scenario(0, count, result=size) for size in _RESULTS for count in wishes.connections]
            add("stdio", _STDIO, *scenarios, servers=1, references=("http",), subject=" of one server")
    return found


def _without(systems: Sequence[str], *left_out: str) -> list[str]:
    return [system for system in systems if system not in left_out]
