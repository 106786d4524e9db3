"""Legs of a fan-out: each asks one server, in parallel with the others and under a deadline of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

import msgspec
import orjson

from mcp_extproc.config import Limits
from mcp_extproc.gateway.catalog import CatalogEntry
from mcp_extproc.gateway.decision import NeedSession, NeedToken
from mcp_extproc.gateway.legs import (
    NO_ROOM,
    AskLeg,
    BatchLeg,
    CloseLeg,
    Done,
    Failed,
    Leg,
    Listed,
    ListLeg,
    NotifyLeg,
    Opened,
    OpenLeg,
    Outcome,
    SessionRef,
)
from mcp_extproc.gateway.memory import SessionMemory, Settings
from mcp_extproc.gateway.request import RequestContext
from mcp_extproc.gateway.tokens import Granted
from mcp_extproc.held import HeldBytes, Holding
from mcp_extproc.mcp import jsontext, methods
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.tasks import Tasks, in_slices
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.observer import UNOBSERVED, Observer
from mcp_extproc.upstreams.answers import Answers
from mcp_extproc.upstreams.batch_client import BatchClient
from mcp_extproc.upstreams.client import NOT_HELD, SessionLost, UpstreamClient, UpstreamError
from mcp_extproc.upstreams.observed import timed
from mcp_extproc.upstreams.room import granted

_LOG = log.logger("upstreams")

_T = TypeVar("_T")

_PURPOSES: Final[Mapping[type[Leg], str]] = {
    OpenLeg: "open", ListLeg: "list", AskLeg: "ask", NotifyLeg: "notify", CloseLeg: "close", BatchLeg: "batch",
}  # fmt: skip
"""What legs are for, in a word."""

_UNKNOWN_LIST = 16 * 1024
"""How large a list is taken to be before it was read once."""


class _Pages:
    """What was read of a list, for the case that its next page does not come."""

    def __init__(self, holding: Holding) -> None:
        self.holding = holding
        self.listed: Listed | None = None

    def cut_by(self, error: UpstreamError) -> Listed | None:
        """The pages before the one that failed; ``None`` where it was the first."""
        return None if self.listed is None else replace(self.listed, truncated=f"{error.message} (a page of its list)")


class LegRunner:
    """Runs legs, and opens the sessions they need.

    Args:
        client: sends the sub-requests.
        batches: sends the messages of batches.
        entries: the servers.
        memory: where sessions opened late are kept.
        limits: bounds on what is read.
        observer: is told of legs, and of sessions that servers lost.
    """

    def __init__(
        self,
        client: UpstreamClient,
        batches: BatchClient,
        entries: Mapping[str, CatalogEntry],
        memory: SessionMemory,
        limits: Limits,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self._client = client
        self._batches = batches
        self._entries = entries
        self._memory = memory
        self._limits = limits
        self._observer = observer
        self._opening: dict[tuple[str, str], asyncio.Task[UpstreamSession]] = {}
        self._watched: dict[tuple[str, str], list[asyncio.Event]] = {}
        self._tasks = Tasks(_LOG)
        self._answers = Answers(self._send_answer, self._tasks)
        self._sizes: dict[tuple[str, str], int] = {}
        """Of the lists that were read last, by server and method."""
        self.held = HeldBytes(limits.held_bytes)
        """What this worker holds of answers."""

    async def run(self, legs: Sequence[Leg], holding: Holding | None = None) -> list[Outcome]:
        """The outcomes, in the order of the legs. One that fails unexpectedly is :class:`Failed` (``internal``), and logged.
        Cancelling this cancels every sub-request, and ends the sessions that were opened: nobody will ever know of them.

        Args:
            legs: what the servers are asked.
            holding: has what is read of their answers, until whoever asks is done with it; ``None`` where nobody is served.
        """
        if holding is None:
            with self.held.holding("nobody") as own:
                return await self.run(legs, own)
        lists = [leg for leg in legs if isinstance(leg, ListLeg)]
        size = min(sum(self._sizes.get((leg.server, leg.method), _UNKNOWN_LIST) for leg in lists), holding.most)
        if holding.reserve(size):
            return await self._run_all(legs, holding)
        loop = asyncio.get_running_loop()
        began = loop.time()
        if not await granted(partial(holding.wait, size), max(leg.deadline for leg in lists)):
            return [self._over(leg, Failed(leg.server, NO_ROOM, NOT_HELD)) for leg in legs]
        waited = loop.time() - began
        return await self._run_all([replace(leg, deadline=leg.deadline - waited) for leg in legs], holding)

    async def _run_all(self, legs: Sequence[Leg], holding: Holding) -> list[Outcome]:
        outcomes: list[Outcome | None] = [None] * len(legs)

        async def run(index: int, leg: Leg) -> None:
            outcomes[index] = self._over(leg, await self._run(leg, holding))

        try:
            async with asyncio.TaskGroup() as group:
                for index, leg in enumerate(legs):
                    group.create_task(run(index, leg))
        except BaseException:
            for leg, outcome in zip(legs, outcomes, strict=True):
                if isinstance(outcome, Opened):
                    self.discard(outcome.server, outcome.session, leg.context)
            raise
        return [outcome for outcome in outcomes if outcome is not None]

    def _over(self, leg: Leg, outcome: Outcome) -> Outcome:
        failed = outcome.reason if isinstance(outcome, Failed) else None
        self._observer.leg(leg.server, _PURPOSES[type(leg)], failed)
        return outcome

    async def session(self, need: NeedSession) -> UpstreamSession | Failed:
        """Open a session that is missing, or that the server lost."""
        ref = need.session
        try:
            if (
                need.doubtful
                and need.lost is not None
                and (found := await self._still_good(need, need.lost)) is not None
            ):
                return found
            return await self.reopen(ref, need.lost, need.context)
        except UpstreamError as error:
            return error.failed(ref.server)

    async def token(self, need: NeedToken) -> Granted | Failed:
        """Get the token that a server gets for a caller's."""
        try:
            return await _within(need.deadline, self._client.token(self._entries[need.server], need.subject, need.span))
        except UpstreamError as error:
            return error.failed(need.server)

    async def _still_good(self, need: NeedSession, doubtful: str) -> UpstreamSession | None:
        """The session to go on with after a request that may have failed for another reason than a lost session; ``None``
        where the server has lost it.

        Raises:
            UpstreamError: the server does not say.
        """
        ref = need.session
        current = self._memory.current(ref)
        if current is not None and current.id != doubtful:
            return current
        session = UpstreamSession(ref.version, doubtful, frozenset())
        return session if await self._knows(ref.server, session, need.deadline, need.context) else None

    async def _knows(self, server: str, session: UpstreamSession, deadline: float, context: RequestContext) -> bool:
        """Ask a server whether it knows a session.

        Raises:
            UpstreamError: it does not say.
        """
        entry = self._entries[server]
        try:
            with self._holding_for(server) as own:
                asking = self._client.request(entry, session, methods.PING.name, {}, context=context, holding=own)
                await _within(deadline, asking)
        except SessionLost:
            return False
        except UpstreamError as error:
            if error.reason != "error":  # a JSON-RPC error is an answer too
                raise
        return True

    async def has_lost(self, ref: SessionRef, session: UpstreamSession, context: RequestContext) -> bool:
        """Whether a server does not know a session any more. What no server says to a lost one counts as knowing it.

        Raises:
            UpstreamError: it is unreachable.
        """
        if self._memory.current(ref) != session:
            return True
        try:
            return not await self._knows(ref.server, session, self._entries[ref.server].discovery_timeout, context)
        except UpstreamError as error:
            if error.reason in ("connect", "timeout"):
                raise
            return False

    def take_back(
        self, ref: SessionRef, given_up: UpstreamSession, replacement: UpstreamSession, context: RequestContext
    ) -> None:
        """A session was replaced for nothing: its replacement fares no better. It is in use again, and the other one ended."""
        if self._memory.current(ref) == replacement:
            self._memory.forget(ref.server, given_up.id or ref.anchor)
            self.discard(ref.server, replacement, context)

    async def _run(self, leg: Leg, holding: Holding) -> Outcome:
        pages = _Pages(holding)
        work = self._batches.send(leg, holding) if isinstance(leg, BatchLeg) else self._asked(leg, pages)
        try:
            return await _within(leg.deadline, work)
        except UpstreamError as error:
            return pages.cut_by(error) or error.failed(leg.server)
        except Exception as error:  # noqa: BLE001 - whatever one server provokes must not cost the others' answers
            log.failure(_LOG, "leg_failed", error, {"server": leg.server})
            return Failed(leg.server, "internal", "could not be asked: the gateway failed, its log says why")

    async def _asked(self, leg: OpenLeg | ListLeg | AskLeg | NotifyLeg | CloseLeg, pages: _Pages) -> Outcome:
        entry = self._entries[leg.server]
        match leg:
            case OpenLeg():
                return await self._open(entry, leg, pages.holding)
            case ListLeg():
                return await self._list(entry, leg, pages)
            case AskLeg():
                return await self._ask(entry, leg, pages.holding)
            case NotifyLeg():
                return await self._notify(entry, leg)
            case CloseLeg():
                return await self._close(entry, leg)

    async def _open(self, entry: CatalogEntry, leg: OpenLeg, holding: Holding) -> Opened:
        opening = self._client.initialize(entry, leg.version, leg.client_flags, context=leg.context, holding=holding)
        session, instructions, streamed = await opening
        return Opened(leg.server, session, instructions, streamed)

    async def _ask(self, entry: CatalogEntry, leg: AskLeg, holding: Holding) -> Done:
        session = self._memory.current(leg.session) or await self.reopen(leg.session, None, leg.context)
        if leg.capability not in session.capabilities:
            return Done(leg.server)
        params = orjson.Fragment(leg.params)
        try:
            await self._client.request(entry, session, leg.method, params, context=leg.context, holding=holding)
        except SessionLost:
            session = await self.reopen(leg.session, session.id, leg.context)
            await self._client.request(entry, session, leg.method, params, context=leg.context, holding=holding)
        return Done(leg.server)

    async def _notify(self, entry: CatalogEntry, leg: NotifyLeg) -> Done:
        session = self._memory.current(leg.session)
        if session is not None:
            # A server that lost its session has nothing left that the notification could be about.
            with contextlib.suppress(SessionLost):
                await self._client.notify(entry, session, leg.body, context=leg.context, method=leg.method)
        return Done(leg.server)

    async def _close(self, entry: CatalogEntry, leg: CloseLeg) -> Done:
        session = self._memory.current(leg.session)
        if session is not None:
            await self._client.end(entry, session, context=leg.context)
        return Done(leg.server)

    async def _list(self, entry: CatalogEntry, leg: ListLeg, pages: _Pages) -> Listed:
        session = self._memory.current(leg.session) or await self.reopen(leg.session, None, leg.context)
        try:
            return await self._pages(entry, leg, session, pages)
        except SessionLost as lost:
            if lost.doubtful and pages.listed is not None:
                # It knew the session a moment ago. What it does not take is the cursor.
                raise
            session = await self.reopen(leg.session, session.id, leg.context)
            return await self._pages(entry, leg, session, pages)

    async def _pages(self, entry: CatalogEntry, leg: ListLeg, session: UpstreamSession, pages: _Pages) -> Listed:
        if leg.capability not in session.capabilities:
            return Listed(leg.server, ())
        items: list[msgspec.Raw] = []
        cursor: msgspec.Raw | None = None
        seen: set[bytes] = set()
        size = 0
        for _ in range(self._limits.list_pages):
            params = {} if cursor is None else {"cursor": orjson.Fragment(bytes(cursor))}
            try:
                result = await self._client.request(
                    entry, session, leg.method, params, context=leg.context, holding=pages.holding
                )
            except UpstreamError as error:
                if error.reason == NO_ROOM:
                    self._sizes[leg.server, leg.method] = self._limits.response_bytes  # it may be as large
                raise
            size += result.size
            self._sizes[leg.server, leg.method] = size
            found = _items(result.members, leg.items, self._limits.list_items + 1)
            readable = found if result.size <= self._limits.json_members else await self._readable(found)
            items += readable
            cursor = _next_cursor(result.members)
            cut = self._cut(size, len(items), len(found) - len(readable))
            del items[self._limits.list_items :]
            if cut is None and cursor is not None and bytes(cursor) in seen:
                cut = "repeats a page of its list"
            pages.listed = Listed(leg.server, items, cut, result.streamed)
            if cut is not None or cursor is None:
                return pages.listed
            seen.add(bytes(cursor))
        return Listed(leg.server, items, f"has more than {self._limits.list_pages} pages", result.streamed)

    async def _readable(self, entries: Sequence[msgspec.Raw]) -> list[msgspec.Raw]:
        return [raw for raw in entries if _is_short(raw, self._limits) or await self._is_readable(raw)]

    async def _is_readable(self, entry: msgspec.Raw) -> bool:
        """Whether an entry has no more members than may be read."""
        return not await in_slices(jsontext.has_more_members(bytes(entry), self._limits.json_members))

    def _cut(self, size: int, count: int, unread: int) -> str | None:
        """Why no more of a list is read."""
        if unread:
            return f"listed an entry with more than {self._limits.json_members} members"
        if size > self._limits.response_bytes:
            return f"listed more than {self._limits.response_bytes} bytes"
        if count > self._limits.list_items:
            return f"listed more than {self._limits.list_items} entries"
        return None

    async def reopen(self, ref: SessionRef, lost: str | None, context: RequestContext) -> UpstreamSession:
        """Open a session late, once for all who wait for the same one. A caller that goes away does not fail the others.

        Raises:
            UpstreamError: the server is unreachable.
        """
        current = self._memory.current(ref)
        if current is not None and current.id != lost:
            return current
        key = (ref.server, lost or ref.anchor)
        task = self._opening.get(key)
        if task is None:
            opening = self._open_late(ref, key, context)
            if lost is not None:
                opening = self._repaired(ref.server, opening)
            task = self._tasks.start("open_session", opening, server=ref.server, expected=(UpstreamError,))
            self._opening[key] = task
            task.add_done_callback(lambda _: self._opening.pop(key, None))
        return await asyncio.shield(task)

    async def _open_late(self, ref: SessionRef, key: tuple[str, str], context: RequestContext) -> UpstreamSession:
        entry = self._entries[ref.server]
        with self._holding_for(ref.server) as own:
            opening = self._client.initialize(entry, ref.version, ref.client_flags, context=context, holding=own)
            session = (await _within(entry.discovery_timeout, opening)).session
        settings = self._memory.settings(*key)
        if settings is not None and not self._memory.is_over(ref):
            await _quietly(self._restore(entry, session, settings, context), entry.discovery_timeout)
        # Last: the client may have ended its session at any time until here, and nothing else would end this one.
        if self._memory.is_over(ref):
            self.discard(ref.server, session, context)
            raise UpstreamError("ended", "is not needed any more: the client ended its session")
        self._memory.replace(*key, session)
        for replaced in self._watched.get(key, ()):
            replaced.set()
        return session

    async def _repaired(self, server: str, opening: Awaitable[UpstreamSession]) -> UpstreamSession:
        with timed(lambda _start, _end, error_type: self._observer.repaired(server, error_type)):
            return await opening

    async def wait_for_another(self, ref: SessionRef, session: UpstreamSession | None, seconds: float) -> None:
        """Wait until the session that comes after one is opened (or the first, after ``None``), at most for a time."""
        if self._memory.current(ref) != session:
            return
        key = (ref.server, (session.id if session is not None else None) or ref.anchor)
        replaced = asyncio.Event()
        self._watched.setdefault(key, []).append(replaced)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await replaced.wait()
        finally:
            self._watched[key].remove(replaced)
            if not self._watched[key]:
                del self._watched[key]

    async def _restore(
        self, entry: CatalogEntry, session: UpstreamSession, settings: Settings, context: RequestContext
    ) -> None:
        """Send a server again what the client set for the whole session."""
        level, subscribe = methods.SET_LEVEL, methods.SUBSCRIBE
        if settings.level is not None and level.capability in session.capabilities:
            await self._set_again(entry, session, level.name, {"level": settings.level}, context)
        if subscribe.capability in session.capabilities:
            for uri in tuple(settings.subscriptions):
                with contextlib.suppress(UpstreamError):  # the resource may be gone
                    await self._set_again(entry, session, subscribe.name, {"uri": uri}, context)

    async def _set_again(
        self, entry: CatalogEntry, session: UpstreamSession, method: str, params: object, context: RequestContext
    ) -> None:
        with self._holding_for(entry.name) as own:
            await self._client.request(entry, session, method, params, context=context, holding=own)

    def _holding_for(self, server: str) -> Holding:
        """For a short answer in which nobody shares but this server's other ones: several clients may wait for it."""
        return self.held.holding(f"server {server}")

    def discard(self, server: str, session: UpstreamSession, context: RequestContext) -> None:
        """End a session with a server that turned out to be useless, in the background."""
        self._tasks.start("end_session", self.end(server, session, context), server=server)

    async def end(self, server: str, session: UpstreamSession, context: RequestContext) -> None:
        """End a session with a server, as far as the server can be reached."""
        entry = self._entries[server]
        await _quietly(self._client.end(entry, session, context=context), entry.discovery_timeout)

    def post(self, server: str, session: UpstreamSession, body: bytes, context: RequestContext) -> bool:
        """Send an answer of the gateway's own to a server's request, if not too many wait already; whether it is sent. It is
        not to a server that was removed, of which a call may still run."""
        return server in self._entries and self._answers.put(server, session, body, context)

    async def answer(self, server: str, session: UpstreamSession, body: bytes, context: RequestContext) -> None:
        """The same for whoever reads the server's stream: it waits while too many do, and nothing is lost."""
        await self._answers.put_when_possible(server, session, body, context)

    async def _send_answer(self, server: str, session: UpstreamSession, body: bytes, context: RequestContext) -> None:
        entry = self._entries[server]
        await _quietly(self._client.notify(entry, session, body, context=context), entry.discovery_timeout)

    async def close(self) -> None:
        """Give up what still runs by itself: sessions being opened or ended, answers to servers."""
        await self._tasks.close()


async def _within(seconds: float, work: Awaitable[_T]) -> _T:
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise UpstreamError("timeout", f"did not answer within {seconds:g} s") from None


async def _quietly(work: Awaitable[None], seconds: float) -> None:
    with contextlib.suppress(UpstreamError):
        await _within(seconds, work)


def _is_short(entry: msgspec.Raw, limits: Limits) -> bool:
    """Whether it can't have too many members. That costs little, and most are."""
    return memoryview(entry).nbytes <= limits.json_members


def _items(result: jsontext.Members, name: str, most: int) -> list[msgspec.Raw]:
    items = jsontext.first_elements(result[name], most) if name in result else None
    if items is None:
        raise UpstreamError("protocol", f"answered without a list of {name}")
    return items


def _next_cursor(result: jsontext.Members) -> msgspec.Raw | None:
    """The next page's cursor. Any string is one, the empty one too; other servers send ``null`` for the end."""
    raw = result.get("nextCursor")
    return None if raw is None or jsontext.text_of(raw) is None else raw
