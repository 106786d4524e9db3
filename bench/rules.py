"""What rules of authorization cost: CPU of the decision about a call, and of merging a list, with and without them.

In this process, without Envoy: a few microseconds are lost in the noise of whole calls. The smallest of many repetitions is
what it costs where nothing else is in the way, also on a busy machine. What this can tell apart is the difference between two
gateways without rules.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.errors import BenchError
from bench.order import shuffled
from bench.stats import Quartiles
from mcp_extproc.config import GatewayConfig
from mcp_extproc.gateway.decision import FanOut, Forward
from mcp_extproc.gateway.dispatch import Gateway
from mcp_extproc.gateway.effects import MemoryEffect
from mcp_extproc.gateway.legs import Listed
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.principal import Principal
from mcp_extproc.gateway.request import RequestHead
from mcp_extproc.mcp import jsontext
from mcp_extproc.mcp.sessions import Sealer, Session, UpstreamSession

_SECRET: Final = "a secret for the benchmark alone"
_NOW: Final = 1_700_000_000.0
_VERSION: Final = "2025-11-25"
_HEADERS: Final = {
    "host": "localhost:1975",
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
}
_ALICE: Final = Principal("token", "https://idp.example", "alice", frozenset({"read"}), claims={"tenant": "acme"})

TOOLS: Final = 1000
RULES: Final = 20
_TWENTY: Final[list[dict[str, Any]]] = [
    *(
        {
            "action": "deny",
            "principals": {"not": {"groups": [f"team-{number}"]}},
            "tools": [f"secret_{number}_*", {"regex": f"^internal{number}"}],
        }
        for number in range(RULES - 1)
    ),
    {"action": "allow", "principals": {"scopes": ["read"]}},
]
_CONDITION: Final[list[dict[str, Any]]] = [
    {"action": "allow", "when": "request.mcp.params.arguments.tenant == request.auth.jwt.claims.tenant"}
]
_WAYS: Final[dict[str, list[dict[str, Any]]]] = {"none": [], "again": [], "twenty": _TWENTY, "condition": _CONDITION}

_CALLS: Final = 20
_REPEATS: Final = 200
_LISTS: Final = 15


@dataclass(frozen=True, slots=True)
class RulesCost:
    """Of each round."""

    calls: Sequence[float]
    """Microseconds that 20 rules without conditions add to a call."""
    condition: Sequence[float]
    """Microseconds that one rule with a condition on arguments adds."""
    lists: Sequence[float]
    """Multiple of the CPU from a server's list of 1,000 tools to the client's, for callers of a kind that was there before."""
    first_lists: Sequence[float]
    """The same for the first caller of its kind, compared with the first one at all where there are no rules."""
    calls_again: Sequence[float]
    """Microseconds that a call takes more at another gateway without rules: what the first two can't be told from."""
    lists_again: Sequence[float]
    """Multiple for a list there."""


def measure(rounds: int) -> RulesCost:
    """Measure all of it.

    Raises:
        BenchError: a call was refused.
    """
    calls = {name: _Gateway(rules) for name, rules in _WAYS.items()}
    took = [_of_calls(calls) for _ in range(rounds)]
    lists = [_of_lists({name: calls[name] for name in ("none", "again", "twenty")}) for _ in range(rounds)]
    return RulesCost(
        [(each["twenty"] - each["none"]) * 1e6 for each in took],
        [(each["condition"] - each["none"]) * 1e6 for each in took],
        [each["twenty"] / each["none"] for each in lists],
        [_Gateway(_TWENTY).merge() / _Gateway([]).merge() for _ in range(rounds)],
        [(each["again"] - each["none"]) * 1e6 for each in took],
        [each["again"] / each["none"] for each in lists],
    )


def table(cost: RulesCost) -> str:
    """As Markdown."""
    rows = [
        (f"a call under {RULES} rules without conditions", "µs more", cost.calls),
        ("a call under one rule with a condition on its arguments", "µs more", cost.condition),
        (f"a list of {TOOLS:,} tools under {RULES} rules", "x without", cost.lists),
        ("the same for the first caller of its kind", "x without", cost.first_lists),
        ("a call at a second gateway without rules", "µs more", cost.calls_again),
        ("a list there", "x without", cost.lists_again),
    ]
    lines = [
        "**rules of authorization**, CPU of the decision alone",
        "",
        "| what | unit | measured |",
        "| --- | --- | --- |",
    ]
    return "\n".join([*lines, *(f"| {what} | {unit} | {Quartiles.of(values)} |" for what, unit, values in rows)])


def _of_calls(gateways: Mapping[str, _Gateway]) -> dict[str, float]:
    """The fewest seconds of CPU for one call, by turns in changing order: what slows one down slows down the others."""
    for one in gateways.values():
        one.prepare()
    took = [{name: gateways[name].calls() for name in shuffled(gateways, turn)} for turn in range(_REPEATS)]
    return {name: min(each[name] for each in took) / _CALLS for name in gateways}


def _of_lists(gateways: Mapping[str, _Gateway]) -> dict[str, float]:
    """The fewest seconds of CPU for one list, by turns in changing order."""
    took = [{name: gateways[name].merge() for name in shuffled(gateways, turn)} for turn in range(_LISTS)]
    return {name: min(each[name] for each in took) for name in gateways}


class _Gateway:
    """A gateway with a server of 1,000 tools, and a session in which these have been listed."""

    def __init__(self, rules: list[dict[str, Any]]) -> None:
        oauth = {"issuers": [{"issuer": _ALICE.issuer, "audiences": ["x"], "jwks": {"uri": f"{_ALICE.issuer}/jwks"}}]}
        config: dict[str, Any] = {
            "servers": {"a": {"url": "http://a.example/mcp"}},
            "authentication": {"oauth": oauth},
            **({"authorization": {"rules": rules}} if rules else {}),
        }
        self._memory = SessionMemory()
        self._gateway = Gateway(GatewayConfig.model_validate(config), _SECRET, self._memory)
        self._head = self._new_session()
        self._answer = json.dumps({"tools": [_tool(number) for number in range(TOOLS)]}).encode()
        self._call = _request("tools/call", {"name": "a__tool_7", "arguments": {"tenant": "acme"}})
        self._list = _request("tools/list", {})

    def prepare(self) -> None:
        """Have calls be like those before.

        Raises:
            BenchError: they are refused.
        """
        if not self._is_forwarded():
            self.merge()
        if not (self._is_forwarded() and self._is_forwarded()):
            raise BenchError("a call was refused by rules that allow it")

    def calls(self) -> float:
        """Seconds of CPU to decide about some calls."""
        decide, head, body = self._gateway.decide, self._head, self._call
        start = time.process_time()
        for _ in range(_CALLS):
            decide(head, body, _NOW)
        return time.process_time() - start

    def _is_forwarded(self) -> bool:
        return isinstance(self._gateway.decide(self._head, self._call, _NOW), Forward)

    def merge(self) -> float:
        """Seconds of CPU from the server's list to the client's, for a session that has none yet, and until the worker has
        remembered what calls need of it."""
        self._head = self._new_session()
        fan_out = self._gateway.decide(self._head, self._list, _NOW)
        assert isinstance(fan_out, FanOut)
        start = time.process_time()
        tools = jsontext.elements_of((jsontext.object_of(self._answer) or {})["tools"]) or []
        decision = fan_out.merge([Listed("a", tools)], _NOW)
        for effect in decision.effects:
            if isinstance(effect, MemoryEffect):
                self._memory.apply(effect)
        return time.process_time() - start

    def _new_session(self) -> RequestHead:
        session = Session(
            audience="/mcp",
            principal=_ALICE.key,
            version=_VERSION,
            expires=int(_NOW) + 3600,
            client="bench/1",
            client_flags=frozenset(),
            upstreams={"a": UpstreamSession(_VERSION, "id of a", frozenset({"tools"}))},
        )
        token, _ = Sealer(_SECRET).seal(session)
        return RequestHead("POST", "/mcp", {**_HEADERS, "mcp-session-id": token}, _ALICE)


def _tool(number: int) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"text": {"type": "string", "description": "What to say"}}}
    return {"name": f"tool_{number}", "description": f"The tool number {number}, of a thousand.", "inputSchema": schema}


def _request(method: str, params: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).encode()
