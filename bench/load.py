"""The load client: a separate process that calls tools as fast as responses arrive, and checks every one.

    python -m bench.load

reads orders from standard input and ends with it (see bench/slices.py, and bench/requests.py for the requests).
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Protocol, Self, cast

import msgspec
import uvloop

from bench.clock import cpu_seconds
from bench.direct import DirectChild
from bench.errors import BenchError
from bench.http1 import Message, Reader
from bench.requests import FIRST_ID, Request, header_lines, requests
from bench.slices import ENOUGH_FOR_P99, SERVER, Answer, Failure, Order, Result
from bench.stats import percentile

_ENOUGH = 40
"""Calls of a slice. With fewer, its median is that of a handful, and one connection may have none."""

_LONGEST = 10.0
"""Seconds after which a slice ends with fewer calls, unless it was to be longer."""

_GRACE = 15.0
"""Seconds after the end of a slice within which all responses must have arrived. A slower gateway is broken."""


class Load:
    """One slice: the calls of all connections together."""

    def __init__(self, order: Order) -> None:
        self._requests = itertools.cycle(requests(order))
        self._ids = itertools.count(FIRST_ID)
        self.latencies: list[float] = []
        """Seconds, of the measured calls only."""
        self._deadline = self._last = 0.0

    def begin(self, now: float, seconds: float) -> None:
        """The measured calls begin, by `time.perf_counter`, and take so long."""
        self._deadline, self._last = now + seconds, now + max(seconds, _LONGEST)

    def goes_on(self, now: float) -> bool:
        """Whether connections are to send more requests: until the slice is over and enough calls have been answered."""
        return now < self._deadline or (len(self.latencies) < _ENOUGH and now < self._last)

    def next_call(self) -> tuple[int, Request]:
        """A fresh id and the request to use it in."""
        return next(self._ids), next(self._requests)


class Wire(Protocol):
    """How requests and responses look on a connection."""

    def request(self, id: int, request: Request) -> bytes:
        """The bytes of a request."""
        ...

    def answers(self, data: bytes) -> list[Message]:
        """The responses that these bytes complete. Raises ValueError if they are none."""
        ...


class Http:
    """Streamable HTTP.

    Args:
        session: header lines of all requests.
        credentials: header lines of the next request, each time.
    """

    def __init__(self, session: bytes, credentials: Iterator[bytes]) -> None:
        self._session = session
        self._credentials = credentials
        self._reader = Reader()

    def request(self, id: int, request: Request) -> bytes:
        """With its headers."""
        return request.with_id(id, self._session + next(self._credentials))

    def answers(self, data: bytes) -> list[Message]:
        """With their headers."""
        return self._reader.feed(data)


class Lines:
    """The stdio transport."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def request(self, id: int, request: Request) -> bytes:
        """A line."""
        return request.line(id)

    def answers(self, data: bytes) -> list[Message]:
        """Lines, as if HTTP had brought them."""
        first, *rest = data.split(b"\n")
        self._pieces.append(first)
        if not rest:
            return []
        lines = [b"".join(self._pieces), *rest[:-1]]
        self._pieces = [rest[-1]]
        return [Message(b"HTTP/1.1 200 OK", line) for line in lines]


class Connection(asyncio.Protocol):
    """One connection, with at most one call at a time."""

    def __init__(self, load: Load, wire: Wire) -> None:
        self._load = load
        self._wire = wire
        self._transport: asyncio.WriteTransport
        self._call: tuple[int, Request] | None = None
        self._sent = 0.0
        self._calls_left = 0
        self._done: asyncio.Future[None] | None = None

    async def warm_up(self, calls: int) -> None:
        """Makes some calls. Raises BenchError if a response is wrong or the connection ends."""
        self._calls_left = calls
        await self._run()

    async def run(self) -> None:
        """Makes calls as long as the load goes on. Raises as `warm_up` does."""
        self._calls_left = 0
        await self._run()

    def write_to(self, transport: asyncio.WriteTransport) -> None:
        """Sends requests there from now on: pipes have one direction."""
        self._transport = transport

    async def _run(self) -> None:
        self._done = asyncio.get_running_loop().create_future()
        self._send()
        await self._done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection was closed under a call: {exc or 'end of stream'}")

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        try:
            for answer in self._wire.answers(data):
                self._answered(answer, now)
        except (BenchError, ValueError) as error:
            self._fail(str(error))

    def _send(self) -> None:
        self._call = id, request = self._load.next_call()
        data = self._wire.request(id, request)
        self._sent = time.perf_counter()
        self._transport.write(data)

    def _answered(self, answer: Message, now: float) -> None:
        if self._call is None:
            raise BenchError(f"an answer that nothing was asked for: {answer.body[:500]!r}")
        id, request = self._call
        self._call = None
        request.check(id, answer)
        if self._calls_left:
            self._calls_left -= 1
            more = self._calls_left > 0
        else:
            self._load.latencies.append(now - self._sent)
            more = self._load.goes_on(now)
        if more:
            self._send()
        elif self._done is not None:
            self._done.set_result(None)

    def _fail(self, reason: str) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(BenchError(reason))


async def run(order: Order, children: Sequence[DirectChild] = ()) -> Result:
    """Runs one slice.

    Args:
        order: the slice.
        children: for each session one, if these are what it calls.

    Raises:
        BenchError: a response is wrong or missing.
    """
    load = Load(order)
    limit = max(order.seconds, _LONGEST) + _GRACE
    with ExitStack() as open_:
        try:
            async with asyncio.timeout(limit):
                connections = await (_piped(load, children, open_) if children else _connected(load, order, open_))
                await asyncio.gather(*(connection.warm_up(order.warm_up) for connection in connections))
                return await _measured(order, load, connections)
        except TimeoutError:
            raise BenchError(f"no answer within {limit:.0f} s") from None
        except OSError as error:
            raise BenchError(f"connecting or reading a process's clock failed: {error}") from error


async def _connected(load: Load, order: Order, open_: ExitStack) -> list[Connection]:
    loop = asyncio.get_running_loop()
    connections = []
    credentials = itertools.cycle([header_lines(headers) for headers in order.credentials] or [b""])
    for headers in order.sessions:
        new = partial(Connection, load, Http(header_lines(headers), credentials))
        transport, connection = await loop.create_connection(new, "127.0.0.1", order.port)
        open_.callback(transport.abort)
        connections.append(connection)
    return connections


async def _piped(load: Load, children: Sequence[DirectChild], open_: ExitStack) -> list[Connection]:
    connections = []
    for child in children:
        connection = Connection(load, Lines())
        reading, writing = await child.connect(connection)
        open_.callback(reading.close)
        open_.callback(writing.abort)
        connection.write_to(writing)
        connections.append(connection)
    return connections


async def _measured(order: Order, load: Load, connections: Sequence[Connection]) -> Result:
    cpu = {name: cpu_seconds(pids) for name, pids in order.clocks.items()}
    own = time.process_time()
    start = time.perf_counter()
    load.begin(start, order.seconds)
    await asyncio.gather(*(connection.run() for connection in connections))
    seconds = time.perf_counter() - start
    own = time.process_time() - own
    cpu = {name: cpu_seconds(pids) - cpu[name] for name, pids in order.clocks.items()}
    latencies = sorted(load.latencies)
    return Result(
        calls=len(latencies),
        seconds=seconds,
        p50=percentile(latencies, 0.50),
        p99=percentile(latencies, 0.99) if len(latencies) >= ENOUGH_FOR_P99 else None,
        cpu=cpu,
        client_cpu=own,
    )


class Client:
    """Carries out orders. Children that it has started for one serve those after it, and end with the context."""

    def __init__(self) -> None:
        self._ending = ExitStack()
        self._children: dict[tuple[str, ...], list[DirectChild]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._ending.close()

    def carry_out(self, order: Order) -> Answer:
        """Runs a slice."""
        try:
            children = self._started(order) if order.command else []
            own = {SERVER: tuple(child.pid for child in children)} if children else {}
            order = msgspec.structs.replace(order, clocks=order.clocks | own)
            return Answer(result=uvloop.run(run(order, children)))
        except BenchError as error:
            return Answer(failure=Failure(error=str(error)))

    def _started(self, order: Order) -> list[DirectChild]:
        children = self._children.setdefault(order.command, [])
        while len(children) < len(order.sessions):
            children.append(self._ending.enter_context(DirectChild(order.command)))
        return children[: len(order.sessions)]


def main() -> None:
    """Processes orders until the end of standard input."""
    with Client() as client:
        for line in sys.stdin.buffer:
            answer = client.carry_out(msgspec.json.decode(line, type=Order))
            sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
