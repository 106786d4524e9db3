"""A relay for one client session, and short ways to give it messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from mcp_extproc.config import GatewayConfig
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.relay.identifiers import ClientView, Identifiers
from mcp_extproc.gateway.relay.responses import Expected
from mcp_extproc.gateway.relay.server_messages import Call, Relay, Relayed
from mcp_extproc.mcp.sealing import TextSealer
from mcp_extproc.mcp.sessions import UpstreamSession
from tests.unit.gateway.support import catalog_of

SECRET = "a secret of the operator, long enough"
LATEST = "2025-11-25"
ALL_FLAGS = frozenset({
    "sampling", "sampling.tools", "elicitation", "elicitation.form", "elicitation.url", "roots", "roots.listChanged",
})  # fmt: skip
CALL = Call("tools/call", None)


class Rig:
    """Servers ``a`` and ``b`` (prefix ``bee``), as one client session sees them."""

    def __init__(
        self,
        *,
        servers: Mapping[str, Mapping[str, Any]] | None = None,
        version: str = LATEST,
        flags: frozenset[str] = ALL_FLAGS,
        session_id: str = "s1",
        **config: Any,
    ) -> None:
        sections = {"a": {}, "b": {"prefix": "bee"}} if servers is None else servers
        filled = {name: {"url": f"http://{name}.example/mcp", **section} for name, section in sections.items()}
        self.view = ClientView(session_id, version, flags)
        self.memory = SessionMemory()
        self.identifiers = Identifiers(TextSealer(SECRET))
        self.catalog = catalog_of(GatewayConfig.model_validate({"servers": filled, **config}))
        self.uris = self.catalog.uris
        self.relay = Relay(self.view, self.catalog, self.identifiers, self.memory)

    def relayed(
        self, message: object, *, server: str = "b", session: UpstreamSession | None = None, call: Call | None = CALL
    ) -> Relayed:
        """What becomes of a message, given as text or as what it says."""
        text = message if isinstance(message, bytes) else json.dumps(message).encode()
        return self.relay.message(server, session or upstream(), text, call)

    def down(self, message: object, **more: Any) -> Any:
        """What the client gets."""
        relayed = self.relayed(message, **more)
        assert relayed.down is not None, relayed
        assert relayed.up is None
        return json.loads(relayed.down)

    def up(self, message: object, **more: Any) -> Any:
        """What the server gets for an answer."""
        relayed = self.relayed(message, **more)
        assert relayed.up is not None, relayed
        assert relayed.down is None
        return json.loads(relayed.up)

    def response(
        self,
        *,
        call: Call = CALL,
        id: bytes | None = b"1",
        session: UpstreamSession | None = None,
        reads_json: bool = True,
        response_bytes: int = 1 << 20,
        event_bytes: int = 1 << 20,
        json_members: int = 100_000,
    ) -> Expected:
        """The response of server ``b``."""
        return Expected(
            self.relay, self.identifiers, "b", session or upstream(), msgspec.structs.replace(call, id=id),
            reads_json=reads_json, response_bytes=response_bytes, event_bytes=event_bytes, json_members=json_members,
        )  # fmt: skip


def upstream(id: str | None = "u1", version: str = LATEST) -> UpstreamSession:
    return UpstreamSession(version, id, frozenset({"tools", "resources"}))


def request(id: Any, method: str, params: Any = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, **({} if params is None else {"params": params})}


def notification(method: str, params: Any = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, **({} if params is None else {"params": params})}


def result(value: Any, id: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "result": value}


def error(code: int, data: Any = None, id: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": "m", "data": data}}
