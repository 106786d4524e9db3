"""One child: a stdio server's process, its pipes, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import resource
import signal
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping
from typing import Any

from mcp_extproc import processes
from mcp_extproc.bridge.environment import inherited, not_executed, own_variables, program
from mcp_extproc.bridge.lines import Lines, Skipped, as_line
from mcp_extproc.bridge.messages import Outgoing, reading
from mcp_extproc.bridge.peer import NO_ROOM, HasEnded, Inbox, NotRead, NotStarted, kept
from mcp_extproc.bridge.said import LOOKED_AT_BYTES, Allowance, Said, plain
from mcp_extproc.bridge.spec import StdioServer
from mcp_extproc.gateway.redaction import Redactor
from mcp_extproc.gateway.request import Headers
from mcp_extproc.secret_values import secret_variables
from mcp_extproc.tasks import Tasks, in_slices
from mcp_extproc.telemetry import log
from mcp_extproc.upstreams.turns import Turns

GRACE_SECONDS = 2.0
"""Between SIGTERM and SIGKILL."""

_OPEN_FILES = 1024
"""The soft limit of a child. Ours is higher; programs that use select(2) fail at a descriptor beyond this, and others raise
theirs, up to the hard limit."""

_LOOK_SECONDS = 0.5
"""To see what it has started, before it is told to end."""

_CHUNK = 1 << 16
_REASON_CHARACTERS = 200
_JUNK_CHARACTERS = 200
_UNREAD_MESSAGES = 2
"""As many requests of the largest size may wait for a child that does not read."""

_SAME_AGAIN_SECONDS = 600.0
"""How often the same end of a server's children is a warning: one that can't work is started again and again."""

_LOG = log.logger("bridge")
_NUMBERS = itertools.count(1)


class Reports:
    """The log of one server's children.

    Args:
        name: of the server.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._allowance = Allowance(time.monotonic())
        self._last_end = ("", 0.0)
        """How the last child ended of whose end was warned, and when that was."""

    def ended(self, how: str, fields: Mapping[str, object], now: float) -> None:
        """A child has ended by itself.

        Args:
            how: as a clause.
            fields: what else is told.
            now: seconds.
        """
        last, at = self._last_end
        is_known = how == last and now - at < _SAME_AGAIN_SECONDS
        if not is_known:
            self._last_end = (how, now)
        self.event(logging.INFO if is_known else logging.WARNING, "child_ended", fields)

    def event(self, level: int, name: str, fields: Mapping[str, object]) -> None:
        """Something that children do rarely."""
        log.event(_LOG, level, name, {"server": self.name, **fields})

    def line(self, level: int, event: str, pid: int, text: str) -> None:
        """Something that they may do without end. The text has no secrets any more."""
        if not self._allowance.takes(time.monotonic()):
            return
        fields: dict[str, object] = {"pid": pid, "line": text}
        if left_out := self._allowance.taken_left_out():
            fields["lines_left_out"] = left_out
        self.event(level, event, fields)


class Child:
    """A running child.

    Args:
        process: its process.
        mark: its mark in the table of processes.
        spec: what it is a child of.
        redact: takes out what it was given of secrets: its file of variables may be another one for the next.
        reports: where it is reported.
        turns: of all that is read of servers.
        inbox: takes what it writes.
    """

    def __init__(
        self,
        process: _Process,
        mark: str,
        spec: StdioServer,
        redact: Redactor,
        reports: Reports,
        turns: Turns,
        inbox: Inbox,
    ) -> None:
        self._process = process
        self._inbox = inbox
        self._turns = turns
        self._mark = mark
        self._seen: dict[int, int] = {}
        """Processes that came from it, and when they started. Once it has ended, nobody else tells of all of them."""
        self._spec = spec
        self._reports = reports
        self._redact = redact
        self._said = Said(redact)
        self._ending: asyncio.Task[None] | None = None
        self._why = ""
        """Why it had to be ended, as a clause."""
        self._tasks = Tasks(_LOG)
        self._readers: list[asyncio.Task[None]] = []
        self.pid = process.pid
        self.ended = asyncio.Event()
        """Set once it is gone, with all below it."""
        self.ending_text = "has ended"
        """How it ended, as a clause for people."""
        self.was_asked = False
        """Whether it ended because it was told to."""

    @classmethod
    async def start(cls, spec: StdioServer, reports: Reports, turns: Turns, inbox: Inbox) -> Child:
        """Start one.

        Raises:
            NotStarted: it can't be started.
        """
        mark = f"{os.getpid()}.{next(_NUMBERS)}"
        own = own_variables(spec)
        variables = {**inherited(spec, os.environ), **own}
        path = program(spec, variables)
        try:
            with processes.WAITED.starting():
                process = await _spawn(
                    path, *spec.command[1:],
                    env={**variables, processes.MARK: mark}, cwd=spec.cwd, stdin=PIPE, stdout=PIPE, stderr=PIPE,
                    start_new_session=True, preexec_fn=_preparing(os.getpid()),
                )  # fmt: skip
                processes.WAITED.add(process)
        except (OSError, ValueError) as error:
            why = not_executed(error) if isinstance(error, OSError) else "its command or a variable holds a NUL"
            raise NotStarted(why) from None
        named = {name: variables[name] for name in spec.inherit_env if name in variables}
        redact = Redactor((*secret_variables({**named, **own}), *spec.secret_words), "")
        child = cls(process, mark, spec, redact, reports, turns, inbox)
        child._begin()
        reports.event(logging.DEBUG, "child_started", {"pid": child.pid})
        return child

    def _begin(self) -> None:
        name = self._reports.name
        self._process.protocol.on_read = self._count_unread
        self._readers = [
            self._tasks.start("read_child", self._read(), server=name, on_failure=self._unreadable),
            self._tasks.start("read_child_errors", self._read_errors(), server=name, on_failure=self._unreadable),
        ]
        self._tasks.start("wait_for_child", self._wait(), server=name)

    @property
    def is_ending(self) -> bool:
        """Whether it is no use for anything new."""
        return self._ending is not None

    def write(self, message: Outgoing, context: Headers = ()) -> None:  # noqa: ARG002 - there are no headers
        """Send it a message.

        Args:
            message: to the server.
            context: reaches nobody.

        Raises:
            NotRead: it does not read, or has ended. ``str()`` is a clause that says which.
        """
        pipe = self._process.stdin
        if pipe is None or pipe.is_closing() or self._ending is not None:
            raise HasEnded
        unread = pipe.transport.get_write_buffer_size()
        if unread > _UNREAD_MESSAGES * self._spec.request_bytes:
            raise NotRead("does not read its input")
        if not self._inbox.unsent.keep(unread + len(message.text)):
            raise NotRead(f"has not read its input, and {NO_ROOM}")
        pipe.write(as_line(message.text))
        self._count_unread()

    def _count_unread(self) -> None:
        if self._process.stdin is not None:
            unread = self._process.stdin.transport.get_write_buffer_size()
            # Less is not told of.
            self._inbox.unsent.keep(unread if unread > _CHUNK else 0)

    async def end(self) -> None:
        """End it and all below it: SIGTERM, then SIGKILL."""
        if self._ending is None:
            self.was_asked = True
            self._end_soon()
        assert self._ending is not None
        await asyncio.shield(self._ending)

    # -- What it writes -------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        assert self._process.stdout is not None
        lines = Lines(self._spec.event_bytes)
        while await self._read_some(self._process.stdout, lines):
            if not await kept(self._inbox.reading, lines.held):
                lines.skip()
                self._inbox.reading.keep(0)
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await self._process.exited.wait()
        except TimeoutError:
            self._end_soon("has closed its standard output")

    async def _read_some(self, pipe: asyncio.StreamReader, lines: Lines) -> bool:
        """The next lines; whether there was anything. A function of its own, so that the last one is not kept."""
        chunk = await pipe.read(_CHUNK)
        for piece in _pieces(chunk):
            await self._turns.take(len(piece))
            for line in lines.feed(piece):
                await self._take(line)
        return bool(chunk)

    async def _take(self, line: bytes | Skipped) -> None:
        if isinstance(line, Skipped):
            event = "stdout_line_refused" if line.found_no_room else "stdout_line_too_long"
            why = NO_ROOM if line.found_no_room else f"over {self._spec.event_bytes} bytes (limits.event_bytes)"
            self._reports.line(logging.WARNING, event, self.pid, why)
            await self._inbox.receive(line)
            return
        messages = await in_slices(reading(line))
        if messages is None:
            text = self._redact(plain(line[:LOOKED_AT_BYTES].decode(errors="replace")), _JUNK_CHARACTERS)
            self._reports.line(logging.WARNING, "stdout_is_no_message", self.pid, text)
            return
        for message in messages:
            await self._inbox.receive(message)

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(_CHUNK):
            for piece in _pieces(chunk):
                await self._turns.take(len(piece))
                self._log(self._said.feed(piece))
        self._log(self._said.finish())

    def _log(self, lines: list[str]) -> None:
        for line in lines:
            self._reports.line(logging.INFO, "stderr", self.pid, line)

    # -- Its end --------------------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        await self._process.exited.wait()
        self._end_soon()

    def _unreadable(self) -> None:
        """Nobody would read it any more, and its calls would have to run into their time-outs."""
        self._end_soon("was ended, as what it wrote could not be read")

    def _end_soon(self, why: str = "") -> None:
        if self._ending is None:
            self._why = why
            self._ending = self._tasks.start("end_child", self._end(), server=self._reports.name)

    async def _end(self) -> None:
        try:
            await self._end_all()
        finally:
            self.ended.set()

    async def _end_all(self) -> None:
        strays = await self._strays_at_first()
        if self._process.stdin is not None:
            self._process.stdin.close()
        processes.send_to_group(signal.SIGTERM, self.pid)
        processes.send(signal.SIGTERM, strays)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                await self._process.exited.wait()
                for pause in processes.pauses():
                    if not await self._strays(pause) and not processes.is_group(self.pid):
                        break
        processes.send_to_group(signal.SIGKILL, self.pid)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                for pause in processes.pauses():
                    if not (strays := await self._strays(pause)):
                        break
                    processes.send(signal.SIGKILL, strays)
        await self._process.exited.wait()
        # What is left in the pipes. Somebody who is not below us may hold them open.
        _, late = await asyncio.wait(self._readers, timeout=GRACE_SECONDS)
        for task in late:
            task.cancel()
        self._process.close()
        self._inbox.reading.keep(0)
        self._inbox.unsent.keep(0)
        self._report(self._process.returncode or 0)

    async def _strays(self, pause: float) -> list[int]:
        """Processes below us that came from this child, and are not in its group: after a pause, or sooner."""
        look = await processes.LOOKS.next(pause)
        # Once it was waited for, its process id may be another one's.
        pid = self.pid if self._process.returncode is None else None
        self._seen |= {one: look.table[one].started for one in look.of_child(pid, self._mark)}
        self._seen = {one: at for one, at in self._seen.items() if one in look.strays and look.table[one].started == at}
        return [one for one in self._seen if look.table[one].group != self.pid]

    async def _strays_at_first(self) -> list[int]:
        """The same at once, and nothing where it can't be seen now."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                return await self._strays(0)
        return []

    def _report(self, code: int) -> None:
        how = processes.ending(code)
        self.ending_text = self._why or f"ended with {how}"
        if reason := self._said.reason.strip():
            self.ending_text += f": {reason[:_REASON_CHARACTERS]}"
        if not self.was_asked:
            lines = " | ".join(self._said.last)
            self._reports.ended(self.ending_text, {"pid": self.pid, "exit": how, "last_lines": lines}, time.monotonic())


class _Process(Process):
    """``wait`` returns only when the pipes are closed too, which a child's own children may keep open."""

    def __init__(self, transport: asyncio.SubprocessTransport, protocol: _Protocol) -> None:
        super().__init__(transport, protocol, asyncio.get_running_loop())
        self.exited = protocol.exited
        """Set once it has ended."""
        self.protocol = protocol
        self.close = transport.close
        """Closes our ends of the pipes."""


class _Protocol(asyncio.subprocess.SubprocessStreamProtocol):
    def __init__(self) -> None:
        super().__init__(limit=_CHUNK, loop=asyncio.get_running_loop())
        self.exited = asyncio.Event()
        self.on_read: Callable[[], object] = lambda: None
        """Called when the child has read most of what was waiting for it."""

    def resume_writing(self) -> None:
        super().resume_writing()
        self.on_read()

    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set()


def _preparing(parent: int) -> Callable[[], None]:
    """What a child runs before its program."""
    ends_with_it = processes.ending_with_parent(parent)

    def prepare() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY or soft > _OPEN_FILES:
            resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, hard))
        ends_with_it()

    return prepare


async def _spawn(*command: str, **options: Any) -> _Process:
    return _Process(*await asyncio.get_running_loop().subprocess_exec(_Protocol, *command, **options))


def _pieces(chunk: bytes) -> list[bytes]:
    """Lines, or parts of long ones: others have their turn in between."""
    return chunk.splitlines(keepends=True)
