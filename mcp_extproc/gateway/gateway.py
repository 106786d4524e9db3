"""The gateway's mind: what to do with each request. A plain function of request, token, memory and configuration.

Two steps, as Envoy sends a request in two: :meth:`Gateway.admit` judges the headers, :meth:`Gateway.decide` the body.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from mcp_extproc import __version__
from mcp_extproc.config import GatewayConfig
from mcp_extproc.gateway import admission, headers, merge, refusals
from mcp_extproc.gateway.catalog import Catalog, CatalogEntry
from mcp_extproc.gateway.decision import (
    CloseLeg,
    Decision,
    Facts,
    Failed,
    FanOut,
    Forward,
    Headers,
    ListLeg,
    NeedSession,
    Note,
    NotifyLeg,
    Opened,
    OpenLeg,
    Outcome,
    Reply,
    RequestHead,
    SessionRef,
)
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.mcp import envelope, errors, jsontext, methods, versions
from mcp_extproc.mcp.envelope import Notification, Request, Response
from mcp_extproc.mcp.errors import McpError
from mcp_extproc.mcp.methods import Handling, Method
from mcp_extproc.mcp.names import MAX_NAME_CHARS, header_value
from mcp_extproc.mcp.sessions import BadToken, OpenedSession, Sealer, Session, UpstreamSession

SERVER_INFO = {"name": "mcp-extproc", "version": __version__}

_JSON: Headers = (("content-type", "application/json"),)
_NO_BODY = b""


class Gateway:
    """Decides about requests.

    Args:
        config: the whole configuration.
        sealer: of session tokens.
        memory: what this worker remembers; only read here.
    """

    def __init__(self, config: GatewayConfig, sealer: Sealer, memory: SessionMemory) -> None:
        self.config = config
        self.catalog = Catalog(config)
        self.memory = memory
        self._sealer = sealer
        self._audience = config.listen.path

    # -- Headers ------------------------------------------------------------------------------------------------------

    def admit(self, head: RequestHead, now: float) -> Decision | None:
        """Judge a request by its headers. ``None``: a POST whose body is needed."""
        facts: dict[str, Any] = {}
        try:
            admission.check_place(head, self.config)
            if head.method == "POST":
                admission.check_post(head, self.config)
                return None
            if head.method == "DELETE":
                return self._close(head, facts, now)
            raise refusals.http_method(head.method)
        except McpError as error:
            return _reject(error, facts)

    # -- Body ---------------------------------------------------------------------------------------------------------

    def decide(self, head: RequestHead, body: bytes, now: float) -> Decision:
        """Judge a POST by its body.

        Args:
            head: as it passed :meth:`admit`.
            body: the whole body.
            now: Unix time in seconds.
        """
        facts: dict[str, Any] = {}
        try:
            if len(body) > self.config.limits.request_bytes:
                raise refusals.too_large(self.config.limits.request_bytes)
            message = envelope.parse(body, self.config.limits.json_depth)
            _describe(message, facts)
            try:
                return self._decide(head, message, facts, now)
            except McpError as error:
                raise error.about(message.id if isinstance(message, Request) else None) from None
        except McpError as error:
            return _reject(error, facts)

    def _decide(self, head: RequestHead, message: envelope.Message, facts: dict[str, Any], now: float) -> Decision:
        if not isinstance(message, Response):
            admission.check_era(head, message)
            if message.method == "initialize":
                if isinstance(message, Notification):
                    raise refusals.initialize_without_id()
                return self._initialize(message, facts)
        admission.check_version_header(head)
        opened = self._session(head, facts, now)
        match message:
            case Request():
                return self._request(head, message, opened, facts)
            case Notification():
                return self._notification(message, opened, facts)
            case Response():
                # Only answers to requests that the gateway carried down can belong to somebody; there are none yet.
                return Reply(202, _NO_BODY, facts=facts)

    def _session(self, head: RequestHead, facts: dict[str, Any], now: float) -> OpenedSession:
        token = head.headers.get("mcp-session-id")
        if token is None:
            raise refusals.session_missing()
        try:
            opened = self._sealer.open(token, audience=self._audience, principal="", now=now)
            if self.memory.has_ended(opened.id):
                raise BadToken("ended")
        except BadToken as error:
            facts["session_error"] = str(error)
            raise refusals.session_unknown() from None
        facts["session"] = opened.id
        facts["protocol_version"] = opened.session.version
        facts["client"] = opened.session.client
        return opened

    def _request(self, head: RequestHead, request: Request, opened: OpenedSession, facts: dict[str, Any]) -> Decision:
        method = methods.REQUESTS.get(request.method)
        if method is None:
            raise refusals.unknown_method(request.method)
        match method.handling:
            case Handling.ANSWER:
                return Reply(200, merge.result(request.id, {}), _JSON, facts)
            case Handling.LIST:
                return self._list(method, request, opened, facts)
            case Handling.BY_NAME:
                return self._call(head, request, opened, facts)
            case _:
                raise AssertionError(f"{request.method} is handled before a session is looked for")

    def _notification(self, message: Notification, opened: OpenedSession, facts: dict[str, Any]) -> Decision:
        method = methods.NOTIFICATIONS.get(message.method)
        if method is None or method.handling is Handling.DROP:
            return Reply(202, _NO_BODY, facts=facts)
        legs = tuple(NotifyLeg(name, self._ref(name, opened), message.body) for name in self.catalog.entries)
        return FanOut(
            legs, lambda outcomes, _: Reply(202, _NO_BODY, facts=facts, notes=_failure_notes(outcomes)), facts
        )

    # -- initialize ---------------------------------------------------------------------------------------------------

    def _initialize(self, request: Request, facts: dict[str, Any]) -> FanOut:
        requested = request.text("protocolVersion")
        if requested is None:
            raise refusals.invalid_params("initialize needs params.protocolVersion, a string such as 2025-11-25.")
        version = versions.negotiate(requested)
        client_capabilities = _relayed_capabilities(request)
        facts["protocol_version"] = version
        facts["client"] = _client_name(request)

        def answer(outcomes: Sequence[Outcome], now: float) -> Reply:
            try:
                return self._initialized(request.id, version, client_capabilities, facts, outcomes, now)
            except McpError as error:
                return _reject(error.about(request.id), facts, _failure_notes(outcomes))

        legs = tuple(OpenLeg(name, version, client_capabilities) for name in self.catalog.entries)
        return FanOut(legs, answer, facts)

    def _initialized(
        self,
        id: bytes,
        version: str,
        client_capabilities: bytes,
        facts: dict[str, Any],
        outcomes: Sequence[Outcome],
        now: float,
    ) -> Reply:
        opened = [outcome for outcome in outcomes if isinstance(outcome, Opened)]
        failed = merge.failures(outcomes)
        if not opened:
            raise _all_failed(failed)
        token, session_id = self._sealer.seal(
            Session(
                audience=self._audience,
                principal="",
                version=version,
                expires=int(now + self.config.session.ttl),
                client=facts["client"],
                client_capabilities=client_capabilities,
                upstreams={o.server: o.session for o in opened},
            )
        )
        value: dict[str, Any] = {
            "protocolVersion": version,
            "capabilities": merge.capabilities(opened),
            "serverInfo": SERVER_INFO,
            **merge.unavailable_meta(failed),
        }
        if text := merge.instructions(opened):
            value["instructions"] = text
        return Reply(
            200,
            merge.result(id, value),
            (*_JSON, ("mcp-session-id", token)),
            {**facts, "session": session_id, **_unavailable_fact(failed)},
            _failure_notes(outcomes),
        )

    # -- Lists --------------------------------------------------------------------------------------------------------

    def _list(self, method: Method, request: Request, opened: OpenedSession, facts: dict[str, Any]) -> FanOut:
        if "cursor" in request.params:
            raise refusals.invalid_cursor()
        assert method.items is not None
        assert method.capability is not None
        legs = tuple(
            ListLeg(name, self._ref(name, opened), method.name, method.items, method.capability)
            for name in self.catalog.entries
            if (session := opened.session.upstreams.get(name)) is None or method.capability in session.capabilities
        )
        items = method.items

        def answer(outcomes: Sequence[Outcome], _: float) -> Reply:
            failed = merge.failures(outcomes)
            if outcomes and all(isinstance(outcome, Failed) for outcome in outcomes):
                return _reject(_all_failed(failed).about(request.id), facts, _failure_notes(outcomes))
            entries, notes = merge.named_items(outcomes, self.catalog.visible_tool, self.config.limits.list_items)
            body = merge.result(request.id, {items: entries, **merge.unavailable_meta(failed)})
            return Reply(200, body, _JSON, {**facts, **_unavailable_fact(failed)}, (*_failure_notes(outcomes), *notes))

        return FanOut(legs, answer, facts)

    # -- Calls --------------------------------------------------------------------------------------------------------

    def _call(self, head: RequestHead, request: Request, opened: OpenedSession, facts: dict[str, Any]) -> Decision:
        name = request.text("name")
        if name is None:
            raise refusals.invalid_params(f"{request.method} needs params.name, a string.")
        found = self.catalog.resolve_tool(name) if len(name) <= MAX_NAME_CHARS else None
        if found is None:
            raise refusals.unknown_tool(name)
        entry, tool = found
        facts["server"] = entry.name
        facts["tool"] = tool
        ref = self._ref(entry.name, opened)

        def resume(session: UpstreamSession | Failed) -> Decision:
            if isinstance(session, Failed):
                return _reject(_all_failed([session]).about(request.id), facts, _failure_notes([session]))
            body = request.body if tool == name else request.replaced("name", orjson.dumps(tool))
            return _forward(head, request.method, entry, tool, session, body, facts)

        session = self.memory.current(ref)
        return NeedSession(ref, None, resume) if session is None else resume(session)

    def _ref(self, server: str, opened: OpenedSession) -> SessionRef:
        known = opened.session.upstreams.get(server)
        anchor = known.id if known is not None and known.id is not None else f"token {opened.id}"
        return SessionRef(server, anchor, known, opened.session.version, opened.session.client_capabilities)

    # -- Ends and repairs ---------------------------------------------------------------------------------------------

    def _close(self, head: RequestHead, facts: dict[str, Any], now: float) -> FanOut:
        opened = self._session(head, facts, now)
        legs = tuple(CloseLeg(name, self._ref(name, opened)) for name in self.catalog.entries)

        def answer(outcomes: Sequence[Outcome], _: float) -> Reply:
            return Reply(204, _NO_BODY, facts=facts, notes=_failure_notes(outcomes))

        self.memory.end(opened.id)
        return FanOut(legs, answer, facts)

    def repair(self, server: str, head: RequestHead) -> Decision:
        """A forwarded request came back from Envoy, because the server answered as if it did not know its session.

        Envoy retries such a request at its private listener ``mcp_repair``. The server is initialized again, and the request
        goes there once more with the new session; nothing else of it changes, and its body never visits us.

        Args:
            server: whose request it is, as Envoy's route says.
            head: with the headers that :class:`Forward` had set.
        """
        facts: dict[str, Any] = {"server": server, "repair": "session"}
        lost = head.headers.get("mcp-session-id")
        if lost is None or head.headers.get("x-envoy-attempt-count", "1") == "1":
            # Not a retry: Envoy found no other endpoint of the server to send the request to.
            return Reply(503, _NO_BODY, facts=facts)
        version = head.headers.get("mcp-protocol-version", versions.V_2025_03_26)
        ref = SessionRef(server, lost, None, version, b"{}")

        def resume(session: UpstreamSession | Failed) -> Decision:
            if isinstance(session, Failed):
                return Reply(503, _NO_BODY, facts=facts, notes=_failure_notes([session]))
            set_headers, gone = _session_headers(session)
            return Forward(server, set_headers, gone, _NO_BODY, facts)

        return NeedSession(ref, lost, resume)


def _forward(
    head: RequestHead,
    method: str,
    entry: CatalogEntry,
    tool: str,
    session: UpstreamSession,
    body: bytes,
    facts: Facts,
) -> Forward:
    session_headers, _ = _session_headers(session)
    set_headers: Headers = (
        (":path", entry.path),
        ("accept", "application/json, text/event-stream"),
        ("content-length", str(len(body))),
        ("mcp-method", method),
        ("mcp-name", header_value(tool)),
        ("x-mcp-server", entry.name),
        *session_headers,
        *entry.headers,
    )
    gone = headers.removed(head.headers, (name for name, _ in set_headers))
    return Forward(entry.name, set_headers, gone, body, facts)


def _session_headers(session: UpstreamSession) -> tuple[Headers, tuple[str, ...]]:
    """Headers that carry the gateway's session with a server, and those that must not be there."""
    has_version = versions.defines_version_header(session.version)
    fields = {
        "mcp-session-id": session.id,
        "mcp-protocol-version": session.version if has_version else None,
    }
    return (
        tuple((name, value) for name, value in fields.items() if value is not None),
        tuple(name for name, value in fields.items() if value is None),
    )


def _describe(message: envelope.Message, facts: dict[str, Any]) -> None:
    if isinstance(message, Request | Response):
        facts["id_json"] = message.id.decode()
        facts["id"] = (
            int(message.id) if message.id[:1] != b'"' and len(message.id) < 16 else jsontext.text_of(message.id)
        )
        if facts["id"] is None:
            facts["id"] = message.id.decode()
    if isinstance(message, Response):
        return
    facts["method"] = message.method
    # A longer name than any that is served is cut here: metadata and logs are no place for megabytes.
    named = {name: text[: MAX_NAME_CHARS + 1] for name in ("name", "uri") if (text := message.text(name)) is not None}
    if named:
        facts["params"] = named


def _relayed_capabilities(request: Request) -> bytes:
    """What the client declared, cut to what the gateway relays."""
    raw = request.params.get("capabilities")
    if raw is None:
        return b"{}"
    try:
        declared = jsontext.split(raw)
    except TypeError:
        raise refusals.invalid_params("params.capabilities has to be an object.") from None
    return jsontext.join({name: raw for name, raw in declared.items() if name in methods.RELAYED_CLIENT_CAPABILITIES})


def _client_name(request: Request) -> str:
    raw = request.params.get("clientInfo")
    try:
        info = jsontext.split(raw) if raw is not None else {}
    except TypeError:
        return ""
    parts = (jsontext.text_of(info[name]) if name in info else None for name in ("name", "version"))
    return "/".join(part for part in parts if part)[:128]


def _reject(error: McpError, facts: dict[str, Any], notes: tuple[Note, ...] = ()) -> Reply:
    told = {**facts, "error_code": error.code, "error_reason": error.reason}
    return Reply(error.status, errors.render(error), (*_JSON, *error.headers), told, notes)


def _all_failed(failed: Sequence[Failed]) -> McpError:
    return refusals.no_answer(merge.summary(failed) or "no server has been asked")


def _unavailable_fact(failed: Sequence[Failed]) -> dict[str, str]:
    return {"unavailable": ",".join(f.server for f in failed)} if failed else {}


def _failure_notes(outcomes: Sequence[Outcome]) -> tuple[Note, ...]:
    return tuple(
        Note("upstream_failed", {"server": f.server, "reason": f.reason, "message": f.message})
        for f in merge.failures(outcomes)
    )
