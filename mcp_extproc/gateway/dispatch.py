"""What to do with each request: a function of the request, its caller, the configuration and what the worker remembers.

Envoy sends a request in two parts, and so there are two steps: :meth:`Gateway.admit` judges the headers,
:meth:`Gateway.decide` the body. Where policies judge each request first, :meth:`Gateway.preview_head` and
:meth:`Gateway.preview` come before: they find out what a request is, and change nothing but caches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from mcp_extproc.bounded import Lookups
from mcp_extproc.config import GatewayConfig
from mcp_extproc.gateway import admission, refusals, repair, replies
from mcp_extproc.gateway.caller import Caller
from mcp_extproc.gateway.catalog import CatalogEntry
from mcp_extproc.gateway.decision import NEED_BODY, Decision, Forward, NeedBody, Reply
from mcp_extproc.gateway.effects import NoteExpiry
from mcp_extproc.gateway.endpoints import Endpoints, ServedEndpoint
from mcp_extproc.gateway.facts import RequestFacts, of_caller
from mcp_extproc.gateway.handshake import HandshakeCallers
from mcp_extproc.gateway.inquiry import Inquiry
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.policy import preview
from mcp_extproc.gateway.relay.awaited import Awaited, Readers
from mcp_extproc.gateway.relay.identifiers import Identifiers
from mcp_extproc.gateway.request import NOTHING_CARRIED, RequestContext, RequestHead, context_of
from mcp_extproc.gateway.requests import (
    batches,
    calls,
    close,
    initialize,
    level,
    lists,
    notifications,
    streams,
    vetted,
)
from mcp_extproc.gateway.requests.vetted import VettedCall
from mcp_extproc.gateway.services import Services
from mcp_extproc.gateway.tokens import Tokens
from mcp_extproc.gateway.vetting import told
from mcp_extproc.mcp import envelope, methods, versions
from mcp_extproc.mcp.envelope import Message, Notification, Request, Response
from mcp_extproc.mcp.errors import McpError
from mcp_extproc.mcp.jsontext import TooManyMembers
from mcp_extproc.mcp.methods import Handling
from mcp_extproc.mcp.names import MAX_NAME_CHARS
from mcp_extproc.mcp.sealing import TextSealer
from mcp_extproc.mcp.sessions import BadToken, ExpiredToken, Sealer
from mcp_extproc.slices import Slices

_SESSION_ID = "mcp-session-id"

_Then = Callable[[ServedEndpoint, RequestHead, Message, float], Decision]
"""Decides about one message."""


class Gateway:
    """Decides about requests.

    Args:
        config: the whole configuration.
        secret: seals session tokens and ids.
        memory: what this worker remembers.
    """

    def __init__(self, config: GatewayConfig, secret: str, memory: SessionMemory) -> None:
        previous = [old.get_secret_value() for old in config.session.previous_secrets]
        identifiers = Identifiers(TextSealer(secret, previous))
        self.config = config
        self._limits = config.limits
        self.memory = memory
        self.identifiers = identifiers
        self._endpoints = Endpoints(config)
        self._services = Services(
            config.limits,
            config.session.ttl,
            Sealer(secret, previous),
            identifiers,
            memory,
            learns_names=config.collects_always,  # labels need them, the status page does not
            reads_all_answers=config.telemetry.answers == "all",
        )
        self._callers = HandshakeCallers(self._services)
        self._readers = Readers(self._endpoints, config.limits, identifiers, memory)

    @property
    def servers(self) -> Mapping[str, CatalogEntry]:
        """The servers of all endpoints, by their unique names."""
        return self._endpoints.servers

    @property
    def tokens(self) -> Tokens:
        """That servers get for callers' own."""
        return self._services.tokens

    @property
    def lookups(self) -> Mapping[str, Lookups]:
        """What was looked for in caches, by their names."""
        return {"merged_lists": self._services.lists.lookups, "exchanged_tokens": self._services.tokens.lookups}

    def has_rules(self, server: str) -> bool:
        """Whether there are rules about what callers may see of a server, at any endpoint."""
        return server in self._endpoints.with_rules

    def renew(self, server: str, secret: str) -> None:
        """A server's credential that is in a file: send this one from now on."""
        self.servers[server].own.replace(secret)
        self._services.plans.clear()

    # -- Headers ------------------------------------------------------------------------------------------------------

    def admit(self, head: RequestHead, now: float) -> Decision | NeedBody:
        """Judge a request by its headers. All but a POST is decided by them.

        Args:
            head: the request's.
            now: Unix time in seconds.
        """
        facts = of_caller(head.principal, head.endpoint)
        try:
            served = self._admitted(head)
            facts = of_caller(head.principal, served.endpoint.name)
            if head.method == "POST":
                return NEED_BODY
            caller = self._caller(served, head, now)
            facts = caller.described(facts)
            if head.method == "GET":
                return streams.open_stream(self._services, caller, head, facts)
            return close.close(self._services, caller, head, facts, now)
        except (McpError, BadToken) as error:
            return _refused(error, facts)

    def _admitted(self, head: RequestHead) -> ServedEndpoint:
        """The endpoint of a request whose head may pass.

        Raises:
            McpError: it may not.
        """
        served = self._endpoints.find(head)
        admission.check_place(head, served.endpoint)
        admission.check_principal(head, served.endpoint.authentication)
        match head.method:
            case "POST":
                admission.check_post(head, self.config.limits)
            case "GET":
                admission.check_get(head)
                if _SESSION_ID not in head.headers:
                    raise refusals.stream("Mcp-Session-Id is missing")
            case "DELETE":
                pass
            case _:
                raise refusals.http_method(head.method)
        return served

    def _caller(self, served: ServedEndpoint, head: RequestHead, now: float) -> Caller:
        """Who sent a request.

        Raises:
            McpError: it names no session.
            BadToken: it names one that is not served.
        """
        return self._callers.find(served, head, now)

    def _caller_if_known(self, served: ServedEndpoint, head: RequestHead, now: float) -> Caller | None:
        if _SESSION_ID not in head.headers:
            return None
        try:
            return self._callers.find(served, head, now)
        except BadToken:
            return None

    # -- Body ---------------------------------------------------------------------------------------------------------

    def decide(
        self, head: RequestHead, body: bytes, now: float, own: Callable[[RequestHead], RequestHead] | None = None
    ) -> Decision:
        """Judge a POST by its body.

        Args:
            head: as it passed :meth:`admit`.
            body: the whole body.
            now: Unix time in seconds.
            own: gives the head within the request's own span, for whatever is done for its sake. For most calls nothing is,
                and they are spared that.
        """
        known = self._refusal(head, body) or self._once_more(head, body, now)
        return known or self._read(head if own is None else own(head), body, now, self._decide)

    def deciding(self, head: RequestHead, body: bytes, now: float) -> Slices[Decision]:
        """The same in slices: a large body takes its time, and others may run between two of them."""
        return self._reading(head, body, now, self._decide)

    def _refusal(self, head: RequestHead, body: bytes) -> Reply | None:
        limits = self._limits
        try:
            if len(body) > limits.request_bytes:
                raise refusals.too_large(limits.request_bytes)
            envelope.check(body, limits.json_depth, limits.json_members)
        except McpError as error:
            return _refused(error, of_caller(head.principal, head.endpoint))
        return None

    def _reading(self, head: RequestHead, body: bytes, now: float, then: _Then) -> Slices[Decision]:
        """Both, as :meth:`_refusal` and :meth:`_read`, in slices."""
        limits = self._limits
        try:
            if len(body) > limits.request_bytes:
                raise refusals.too_large(limits.request_bytes)
            yield from envelope.checking(body, limits.json_depth, limits.json_members)
            yield
            served = self._endpoints.find(head)
            if envelope.is_batch(body):
                return self._batch(served, head, body, now)
            message = yield from envelope.reading(body)
        except McpError as error:
            return _refused(error, of_caller(head.principal, head.endpoint))
        yield
        return then(served, head, message, now)

    def _read(self, head: RequestHead, body: bytes, now: float, then: _Then) -> Decision:
        """What a body is: refused, a batch, or one message, about which ``then`` decides."""
        try:
            served = self._endpoints.find(head)
            if envelope.is_batch(body):
                return self._batch(served, head, body, now)
            message = envelope.read(body)
        except McpError as error:
            return _refused(error, of_caller(head.principal, head.endpoint))
        return then(served, head, message, now)

    def _decide(self, served: ServedEndpoint, head: RequestHead, message: Message, now: float) -> Decision:
        if isinstance(message, Request) and (caller := self._caller_if_known(served, head, now)) is not None:
            forward = self._like_before(caller, head, message, now)
            if forward is not None:
                return forward
        return self._message(served, head, message, now)

    def _once_more(self, head: RequestHead, body: bytes, now: float) -> Forward | None:
        """The shortest way, for a call like one that was forwarded before, with the very same head."""
        caller = self._callers.known(head, now)
        request = None if caller is None else envelope.usual(body)
        return None if caller is None or request is None else self._like_before(caller, head, request, now)

    def _like_before(self, caller: Caller, head: RequestHead, request: Request, now: float) -> Forward | None:
        """The short way for calls like one that was forwarded before; ``None`` where the long one has to be taken."""
        token = None
        if "_meta" in request.params:
            try:
                admission.check_era(head, request)
                token = calls.progress_token(request)
            except McpError:
                return None
        return calls.like_before(caller, self._services, head, request, token, now)

    def _message(self, served: ServedEndpoint, head: RequestHead, message: Message, now: float) -> Decision:
        facts = _described(message, head, served)
        try:
            if not preview.is_as_judged(head, None if isinstance(message, Response) else message.method):
                raise refusals.not_as_judged()
            if not isinstance(message, Response):
                admission.check_era(head, message)
                if methods.opens_session(message.method):
                    request, facts = self._opening(served, head, message, facts, now)
                    return initialize.initialize(self._services, served, head, request, facts)
            admission.check_version_header(head)
            caller = self._caller(served, head, now)
            facts = caller.described(facts)
            match message:
                case Request():
                    return _request(Inquiry(head, message, caller, self._services, facts, now))
                case Notification():
                    return notifications.notification(self._services, caller, head, message, facts)
                case Response():
                    return notifications.response(self._services, caller, head, message, facts)
        except (McpError, BadToken, TooManyMembers) as error:
            return _refused(error, facts, _id_of(message))

    def _opening(
        self,
        served: ServedEndpoint,
        head: RequestHead,
        message: Request | Notification,
        facts: RequestFacts,
        now: float,
    ) -> tuple[Request, RequestFacts]:
        """The request that opens a session, and what is known of it.

        Raises:
            McpError: it is none.
            BadToken: it names a session that is not served: a client that assumes a session gets 404,
                whatever it asks.
        """
        if isinstance(message, Notification):
            raise refusals.initialize_without_id()
        if _SESSION_ID in head.headers:
            facts = self._caller(served, head, now).described(facts)
        return message, facts

    def _batch(self, served: ServedEndpoint, head: RequestHead, body: bytes, now: float) -> Decision:
        limits, facts = self.config.limits, of_caller(head.principal, served.endpoint.name)
        try:
            bodies = envelope.split_batch(body, limits.batch_messages)
            if _SESSION_ID not in head.headers:
                raise envelope.no_batch()
            admission.check_version_header(head)
            caller = self._caller(served, head, now)
            facts = caller.described(facts)
            if caller.view.version != versions.V_2025_03_26:
                raise envelope.no_batch()
            return batches.split(head, bodies, facts)
        except (McpError, BadToken) as error:
            return _refused(error, facts)

    # -- What policies see --------------------------------------------------------------------------------------------

    def preview_head(self, head: RequestHead, now: float) -> Decision | NeedBody:
        """What a request is by its headers, for policies that judge it before anything is done about it."""
        facts = of_caller(head.principal, head.endpoint)
        try:
            served = self._admitted(head)
            facts = of_caller(head.principal, served.endpoint.name)
            if head.method == "POST":
                return NEED_BODY
            caller = self._caller(served, head, now)
            facts = caller.described(facts)
            if head.method == "GET":
                facts = streams.described(self._services, caller, head, facts)
            return preview.show(head, facts)
        except (McpError, BadToken) as error:
            return _refused(error, facts)

    def preview(self, head: RequestHead, body: bytes, now: float) -> Decision:
        """What a POST is, for policies that judge it before anything is done about it.

        Returns:
            A :class:`Preview`; a :class:`Reply` where the request may not come in at all. It asks nobody: where only the
            servers' lists say whose a name is, policies judge the request again once that is known. The messages of a
            batch are sent on one by one, and each is previewed by itself.
        """
        return self._refusal(head, body) or self._read(head, body, now, self._preview)

    def previewing(self, head: RequestHead, body: bytes, now: float) -> Slices[Decision]:
        """The same in slices."""
        return self._reading(head, body, now, self._preview)

    def _preview(self, served: ServedEndpoint, head: RequestHead, message: Message, now: float) -> Decision:
        facts = of_caller(head.principal, served.endpoint.name)
        try:
            facts = preview.native_facts(message, facts)
            if not isinstance(message, Response):
                admission.check_era(head, message)
                if methods.opens_session(message.method):
                    _, facts = self._opening(served, head, message, facts, now)
                    return preview.show(head, facts)
            admission.check_version_header(head)
            caller = self._caller(served, head, now)
            facts = caller.described(facts)
            method = methods.REQUESTS.get(message.method) if isinstance(message, Request) else None
            if method is None or not method.is_for_one_server:
                return preview.show(head, notifications.described(self._services, caller, message, facts))
            assert isinstance(message, Request)
            return calls.preview(Inquiry(head, message, caller, self._services, facts, now), method)
        except (McpError, BadToken, TooManyMembers) as error:
            if isinstance(error, McpError) and error.status == 200:
                # A refusal reveals something of what is there: policies come first.
                return preview.show(head, facts)
            return _refused(error, facts, _id_of(message))

    def foresee(self, head: RequestHead, body: bytes, now: float) -> Decision:
        """Decide about a POST before policies that read no body have judged it, where it is an ordinary call.

        Returns:
            A :class:`Forward` without effects, whose server's own is put into it behind the policies; otherwise as
            :meth:`preview`.
        """
        return self._refusal(head, body) or self._read(head, body, now, self._foresee)

    def foreseeing(self, head: RequestHead, body: bytes, now: float) -> Slices[Decision]:
        """The same in slices."""
        return self._reading(head, body, now, self._foresee)

    def _foresee(self, served: ServedEndpoint, head: RequestHead, message: Message, now: float) -> Decision:
        method = methods.REQUESTS.get(message.method) if isinstance(message, Request) else None
        if method is not None and method.is_for_one_server:
            decision = self._decide(served, head, message, now)
            if isinstance(decision, Forward) and calls.is_ordinary(head, decision):
                return decision
        return self._preview(served, head, message, now)

    # -- Responses ----------------------------------------------------------------------------------------------------

    def awaited(self, told: Mapping[str, str]) -> Awaited:
        """The response that a forwarded request's metadata announced (:mod:`mcp_extproc.gateway.relay.awaited`)."""
        return self._readers.awaited(told)

    # -- Consent ----------------------------------------------------------------------------------------------------------

    def vetted(self, head: RequestHead, text: str, body: bytes) -> VettedCall:
        """A call whose user is asked before it runs.

        Args:
            head: of the request, as policies were shown it.
            text: what the worker that decided about it said (:mod:`mcp_extproc.gateway.vetting.told`).
            body: as policies were shown it.

        Raises:
            NotTold: no worker of ours has decided about it.
            McpError: it is no call.
        """
        about = told.read(self.identifiers, text)
        return vetted.read(head, about, body, self.identifiers)

    # -- Repairs --------------------------------------------------------------------------------------------------------

    def repair(self, server: str, head: RequestHead) -> Decision:
        """A forwarded request that Envoy sends once more (:mod:`mcp_extproc.gateway.repair`)."""
        return repair.repair(self.config.servers.get(server), server, head, self.context_of_repair(server, head))

    def context_of_repair(self, server: str, head: RequestHead) -> RequestContext:
        """The context of what is done for a request that Envoy sends once more: it has what the server gets of the caller."""
        entry = self.servers.get(server)
        carried = () if entry is None else entry.carried_again(head.headers)
        return context_of(head, carried={server: carried} if carried else NOTHING_CARRIED)


def _request(ask: Inquiry) -> Decision:
    method = methods.REQUESTS.get(ask.request.method)
    if method is None:
        raise refusals.unknown_method(ask.request.method)
    match method.handling:
        case Handling.ANSWER:
            return replies.result(ask.request.id, {}, ask.facts)
        case Handling.LIST:
            return lists.merged(ask, method)
        case Handling.BY_NAME | Handling.BY_URI | Handling.BY_REF:
            return calls.forward(ask, method)
        case Handling.SET_LEVEL:
            return level.set_level(ask, method)
        case _:
            raise AssertionError(f"{ask.request.method} is handled before a session is looked for")


def _refused(error: McpError | BadToken | TooManyMembers, facts: RequestFacts, id: bytes | None = None) -> Reply:
    if isinstance(error, TooManyMembers):
        error = envelope.too_many_members(f'"params" holds {error}')
    if isinstance(error, BadToken):
        reply = replies.reject(refusals.session_unknown().about(id), facts.but(session_error=str(error)))
        if isinstance(error, ExpiredToken):
            return replace(reply, effects=(NoteExpiry(error.session, error.version),))
        return reply
    return replies.reject(error.about(id) if id is not None else error, facts)


def _id_of(message: Message) -> bytes | None:
    return message.id if isinstance(message, Request) else None


def _described(message: Message, head: RequestHead, served: ServedEndpoint) -> RequestFacts:
    known = of_caller(head.principal, served.endpoint.name)
    if head.awaits_policies:
        return preview.native_facts(message, known)
    if isinstance(message, Response):
        return known.but(id=message.id)
    # A longer name than any that is served is cut here: metadata and logs are no place for megabytes.
    named = {name: text[: MAX_NAME_CHARS + 1] for name in ("name", "uri") if (text := message.text(name)) is not None}
    id = message.id if isinstance(message, Request) else None
    return known.but(id=id, method=message.method, params=named or None)
