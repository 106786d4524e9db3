"""A gateway in front of servers that exist only as names, and short ways to ask it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.endpoint import endpoints
from mcp_extproc.gateway.catalog import Catalog
from mcp_extproc.gateway.decision import Decision, FanOut, Forward, NeedBody, Preview, Reply, Stream
from mcp_extproc.gateway.dispatch import Gateway
from mcp_extproc.gateway.effects import EndStreams, RecordEffect, VettingEffect
from mcp_extproc.gateway.legs import Opened, Outcome
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.relay.identifiers import ClientView
from mcp_extproc.gateway.request import RequestHead
from mcp_extproc.mcp import jsontext
from mcp_extproc.mcp.capabilities import Flags, server_flags
from mcp_extproc.mcp.sessions import Sealer, Session, UpstreamSession

NOW = 1_700_000_000.0
SECRET = "a secret of the operator, long enough"
LATEST = "2025-11-25"
EVERYTHING = ("completions", "logging", "prompts", "resources", "resources.subscribe", "tools")
"""Flags of a server that offers all there is."""

HEADERS = {
    "host": "localhost:1975",
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
}


def config(servers: Mapping[str, Mapping[str, Any]] | None = None, **more: Any) -> GatewayConfig:
    servers = {"a": {}, "b": {}} if servers is None else servers
    filled = {name: {"url": f"http://{name}.example/mcp", **server} for name, server in servers.items()}
    return GatewayConfig.model_validate({"servers": filled, **more})


def catalog_of(config: GatewayConfig) -> Catalog:
    """What the only endpoint of a configuration offers."""
    [endpoint] = endpoints(config)
    return Catalog(endpoint)


def upstream(
    server: str, version: str = LATEST, capabilities: Sequence[str] = ("tools",), id: str | None = ""
) -> UpstreamSession:
    """The gateway's session with a server; its id is ``id of <server>`` unless another one, or ``None``, is given."""
    return UpstreamSession(version, f"id of {server}" if id == "" else id, frozenset(capabilities))


def opened(server: str, capabilities: Mapping[str, Any] | None = None, instructions: str | None = None) -> Opened:
    """What a server answered to ``initialize``."""
    declared = jsontext.split(orjson.dumps({"tools": {}} if capabilities is None else capabilities))
    return Opened(server, upstream(server, capabilities=tuple(server_flags(declared))), instructions)


def head(method: str = "POST", path: str = "/mcp", /, **headers: str | None) -> RequestHead:
    """A request's head as agents send it; underscores in names stand for dashes, and ``None`` leaves a header out."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    merged: dict[str, str | None] = {**HEADERS, **named}
    return RequestHead(method, path, {name: value for name, value in merged.items() if value is not None})


def message(method: str, params: Any = None, id: Any = 7, **more: Any) -> bytes:
    """A request, or with ``id=None`` a notification."""
    members = {"jsonrpc": "2.0", "id": id, "method": method, "params": params, **more}
    return json.dumps({name: value for name, value in members.items() if value is not None}).encode()


@dataclass
class Rig:
    """A gateway with a session in which every server takes part."""

    config: GatewayConfig = field(default_factory=config)
    upstreams: dict[str, UpstreamSession] | None = None
    memory: SessionMemory = field(default_factory=SessionMemory)
    version: str = LATEST
    client_flags: Flags = frozenset()
    secret: str = SECRET

    def __post_init__(self) -> None:
        self.gateway = Gateway(self.config, self.secret, self.memory)
        self.sealer = Sealer(self.secret)
        if self.upstreams is None:
            self.upstreams = {name: upstream(name) for name in self.config.servers}
        self.token, self.session = self.sealer.seal(self.state())

    def state(self, **changed: Any) -> Session:
        values = {
            "audience": self.config.listen.path,
            "principal": "",
            "version": self.version,
            "expires": int(NOW) + 3600,
            "client": "agent/1",
            "client_flags": self.client_flags,
            "upstreams": self.upstreams,
            **changed,
        }
        return Session(**values)

    @property
    def view(self) -> ClientView:
        """The session, as texts are sealed for it."""
        return ClientView(self.session, self.version, self.client_flags)

    def own(self, purpose: str, server: str, raw: bytes) -> bytes:
        """A server's id or token as the client gets it."""
        assert self.upstreams is not None
        session = self.upstreams.get(server) or upstream(server)
        return self.gateway.identifiers.own(purpose, self.view, server, session, raw)

    def head(self, method: str = "POST", /, **headers: str | None) -> RequestHead:
        """A request's head within the session."""
        within: dict[str, str | None] = {"mcp_session_id": self.token, **headers}
        return head(method, **within)

    def decide(self, body: bytes, request: RequestHead | None = None) -> Decision:
        """The decision on a POST, as both of its steps give it. Within the session, unless a head is given."""
        request = self.head() if request is None else request
        admitted = self.gateway.admit(request, NOW)
        decision = self.gateway.decide(request, body, NOW) if isinstance(admitted, NeedBody) else admitted
        self.carry_out(decision)
        return decision

    def carry_out(self, decision: Decision) -> None:
        """Have the memory know what a decision changes, as an exchange does."""
        for effect in decision.effects:
            if not isinstance(effect, EndStreams | RecordEffect | VettingEffect):
                self.memory.apply(effect)

    def shown(self, body: bytes, request: RequestHead | None = None) -> tuple[Preview, RequestHead]:
        """What policies are shown of a POST, and its head as it comes from them."""
        request = self.head() if request is None else request
        preview = self.gateway.preview(request, body, NOW)
        assert isinstance(preview, Preview), preview
        return preview, judged(request, preview)

    def reply(self, body: bytes, request: RequestHead | None = None) -> Reply:
        return as_reply(self.decide(body, request))

    def fan_out(self, body: bytes, request: RequestHead | None = None) -> FanOut:
        decision = self.decide(body, request)
        assert isinstance(decision, FanOut), decision
        return decision

    def forward(self, body: bytes, request: RequestHead | None = None) -> Forward:
        decision = self.decide(body, request)
        assert isinstance(decision, Forward), decision
        return decision

    def call(self, tool: str, **headers: str | None) -> Forward:
        """The decision on a call of a tool by its client-visible name."""
        return self.forward(message("tools/call", {"name": tool}), self.head(**headers))

    def get(self, **headers: str | None) -> Decision:
        """The decision on a GET within the session."""
        decision = self.gateway.admit(self.head("GET", **{"accept": "text/event-stream", **headers}), NOW)
        assert not isinstance(decision, NeedBody)
        return decision

    def stream(self, **headers: str | None) -> Stream:
        decision = self.get(**headers)
        assert isinstance(decision, Stream), decision
        return decision

    def merged(self, body: bytes, outcomes: Sequence[Outcome], request: RequestHead | None = None) -> Reply:
        """The answer to a request for which the servers' legs ended so."""
        return as_reply(self.fan_out(body, request).merge(outcomes, NOW))


def judged(request: RequestHead, preview: Preview) -> RequestHead:
    """The head of a request that policies let pass."""
    kept = {name: value for name, value in request.headers.items() if name not in preview.remove_headers}
    return replace(request, headers={**kept, **dict(preview.set_headers)}, is_judged=True)


def as_reply(decision: Decision | NeedBody) -> Reply:
    assert isinstance(decision, Reply), decision
    return decision


def answer(reply: Reply) -> Any:
    """The JSON-RPC message of a reply that is JSON."""
    assert ("content-type", "application/json") in reply.headers
    return json.loads(reply.body)


def code(reply: Reply) -> int:
    """The JSON-RPC error code of a reply."""
    found = answer(reply)["error"]["code"]
    assert isinstance(found, int)
    return found
