"""Sections of a run: each compares some systems under some loads, with its own processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.rounds import REFERENCES, Plan, Scenario
from bench.systems import TRANSPORTS

COMPARED = ("plain", "mcp", "router", "gateway")
"""Systems that can be selected; the last one represents this gateway on every selected transport."""

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

_SETTLE = 2.0
"""Seconds. Envoy holds records back for a tenth of one, the collector lines for a fifth, and spans for a whole one."""

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
    selection = _Selection(wishes)
    found: dict[str, Plan] = {}
    for section in wishes.sections:
        if section in _PLANS and (selection.gateways or section in _WITHOUT_GATEWAY):
            found.update(_PLANS[section](selection))
    return {name: plan for name, plan in found.items() if plan.systems}


class _Selection:
    """What a section's plans are made of.

    Args:
        wishes: the user's.
    """

    def __init__(self, wishes: Wishes) -> None:
        self.wishes = wishes
        self.gateways = [TRANSPORTS[name] for name in wishes.transports] if "gateway" in wishes.systems else []
        """Of this gateway, on each transport."""
        self.others = [system for system in wishes.systems if system != "gateway"]
        self.busiest = Scenario(0, max(wishes.connections))
        self.small = [Scenario(0, count) for count in wishes.connections]

    @property
    def ours(self) -> list[str]:
        """Systems of this gateway."""
        return [each.gateway for each in self.gateways]

    def others_but(self, *left_out: str) -> list[str]:
        """Systems other than this gateway."""
        return [system for system in self.others if system not in left_out]

    def floors(self, *names: str) -> list[str]:
        """Prototypes, where there is a gateway to compare them with."""
        return list(names) if self.gateways else []

    def plan(
        self,
        systems: Sequence[str],
        *scenarios: Scenario,
        servers: int = _FEW,
        tools: int = 2,
        references: tuple[str, ...] = REFERENCES,
        subject: str = "",
        settle: float = 0.0,
        more: int = 1,
        longer: int = 1,
    ) -> Plan:
        """Systems under loads, ``more`` rounds of slices that are ``longer``."""
        names = tuple(f"s{number}" for number in range(1, servers + 1))
        seconds, rounds = self.wishes.seconds * longer, self.wishes.rounds * more
        return Plan(tuple(systems), scenarios, seconds, rounds, names, tools, references, subject, settle)


_Plans = Mapping[str, Plan]


def _calls(of: _Selection) -> _Plans:
    scenarios = [Scenario(size, count) for size in of.wishes.content for count in of.wishes.connections]
    strict = ["router-strict"] if "router" in of.others else []
    return {"calls": of.plan([*of.others, *strict, *of.ours, *of.floors("floor")], *scenarios)}


def _events(of: _Selection) -> _Plans:
    own = [name for each in of.gateways for name in (each.gateway, each.events, each.stateless)]
    systems = [*of.others_but("mcp"), *own, *of.floors("floor-events", "floor-stateless")]
    scenarios = [Scenario(0, count, "event") for count in of.wishes.connections]
    return {"events": of.plan(systems, *scenarios, replace(of.busiest, kind="events"))}


def _logged(of: _Selection) -> _Plans:
    own = [f"{name}-logged" for name in ("router", "gateway") if name in of.wishes.systems]
    systems = [*own, *of.floors("floor-logged")]
    return {"logged": of.plan(systems, *of.small, references=("router-logged",), subject=" with access logs")}


def _large(of: _Selection) -> _Plans:
    return {"large": of.plan([*of.others_but("mcp"), *of.floors("floor"), *of.ours], *_LARGE)}


def _read(of: _Selection) -> _Plans:
    systems, references = [*of.others_but("mcp", "plain"), "gateway", *_READ], ("router", "gateway")
    scenarios = [*of.small, replace(of.busiest, result=_LARGE_RESULT)]
    return {"read": of.plan(systems, *scenarios, references=references, subject=" answered in JSON")}


def _pass_through(of: _Selection) -> _Plans:
    systems, references = [*of.others_but("router"), "pass-through"], ("plain", "mcp")
    scenarios = [*of.small, *(replace(of.busiest, content=size) for size in _INSPECTED)]
    subject = " of one server, inspected"
    return {"pass-through": of.plan(systems, *scenarios, references=references, subject=subject)}


def _lists(of: _Selection) -> _Plans:
    systems = [*of.others_but("mcp", "plain"), *of.ours]
    return {
        f"lists of {servers}": of.plan(systems, Scenario(0, 1, "list"), servers=servers, tools=_LISTED)
        for servers in (_FEW, _MANY)
    }


def _policy(of: _Selection) -> _Plans:
    judged = ["router", "router-policy"] if "router" in of.others else []
    systems, references = [*judged, "gateway", "again", "policy"], ("router", "gateway")
    return {"policy": of.plan(systems, of.busiest, references=references, subject=" under a policy", more=_MORE)}


def _authentication(of: _Selection) -> _Plans:
    systems, references, subject = ["gateway", *_AUTHENTICATING], ("gateway",), " with authentication"
    return {"authentication": of.plan(systems, *of.small, references=references, subject=subject, more=_MORE)}


def _telemetry(of: _Selection) -> _Plans:
    systems, references = [*of.others_but("mcp", "plain"), *_TELLING], ("router", "quiet")
    return {
        "telemetry": of.plan(
            systems, of.busiest, references=references, subject=" with telemetry", settle=_SETTLE, longer=_LONGER
        )
    }


def _workers(of: _Selection) -> _Plans:
    own = [name for each in of.gateways for name in (each.gateway, each.workers)]
    return {"workers": of.plan(own, of.busiest, references=(own[0],), subject=" with one and two workers")}


def _run(of: _Selection) -> _Plans:
    systems = [*of.others_but("mcp", "plain"), "gateway", "run", "run-no-page"]
    return {"run": of.plan(systems, *of.small, references=("router", "gateway"), subject=" through `run`")}


def _stdio(of: _Selection) -> _Plans:
    scenarios = [Scenario(0, count, result=size) for size in _RESULTS for count in of.wishes.connections]
    return {"stdio": of.plan(_STDIO, *scenarios, servers=1, references=("http",), subject=" of one server")}


_PLANS: Mapping[str, Callable[[_Selection], _Plans]] = {
    "calls": _calls, "logged": _logged, "events": _events, "large": _large, "read": _read,
    "pass-through": _pass_through, "lists": _lists, "policy": _policy, "authentication": _authentication,
    "telemetry": _telemetry, "workers": _workers, "run": _run, "stdio": _stdio,
}  # fmt: skip

_WITHOUT_GATEWAY = ("calls", "logged", "events", "large", "lists")
"""Sections that may compare others alone."""

PLANNED = tuple(_PLANS)
"""Sections that consist of rounds."""
