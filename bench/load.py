"""The load client: a separate process that calls tools as fast as responses arrive, and checks every one.

    python -m bench.load

reads orders from standard input and ends with it (see bench/slices.py, and bench/requests.py for the requests).
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from functools import partial
from typing import cast

import msgspec
import uvloop

from bench.clock import cpu_seconds
from bench.errors import BenchError
from bench.http1 import Message, Reader
from bench.requests import FIRST_ID, Request, header_lines, requests
from bench.slices import Answer, Failure, Order, Result
from bench.stats import percentile

_GRACE = 15.0
"""Seconds after the end of a slice within which all responses must have arrived. A slower gateway is broken."""


class Load:
    """One slice: the calls of all connections together."""

    def __init__(self, order: Order) -> None:
        self._requests = itertools.cycle(requests(order))
        self._ids = itertools.count(FIRST_ID)
        self.latencies: list[float] = []
        """Seconds, of the measured calls only."""
        self.deadline = 0.0
        """When connections stop sending requests, by `time.perf_counter`."""

    def next_call(self) -> tuple[int, Request]:
        """A fresh id and the request to use it in."""
        return next(self._ids), next(self._requests)


class Connection(asyncio.Protocol):
    """One connection, with at most one call at a time."""

    def __init__(self, load: Load, session: bytes) -> None:
        self._load = load
        self._session = session
        self._reader = Reader()
        self._transport: asyncio.Transport
        self._call: tuple[int, Request] | None = None
        self._sent = 0.0
        self._calls_left = 0
        self._done: asyncio.Future[None] | None = None

    async def warm_up(self, calls: int) -> None:
        """Makes some calls. Raises BenchError if a response is wrong or the connection ends."""
        self._calls_left = calls
        await self._run()

    async def run(self) -> None:
        """Makes calls until the load's deadline has passed. Raises as `warm_up` does."""
        self._calls_left = 0
        await self._run()

    def close(self) -> None:
        """Ends the connection."""
        self._transport.abort()

    async def _run(self) -> None:
        self._done = asyncio.get_running_loop().create_future()
        self._send()
        await self._done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection was closed under a call: {exc or 'end of stream'}")

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        try:
            for answer in self._reader.feed(data):
                self._answered(answer, now)
        except (BenchError, ValueError) as error:
            self._fail(str(error))

    def _send(self) -> None:
        self._call = id, request = self._load.next_call()
        data = request.with_id(id, self._session)
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
            more = now < self._load.deadline
        if more:
            self._send()
        elif self._done is not None:
            self._done.set_result(None)

    def _fail(self, reason: str) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(BenchError(reason))


async def run(order: Order) -> Result:
    """Runs one slice. Raises BenchError if a response is wrong or missing."""
    load = Load(order)
    loop = asyncio.get_running_loop()
    connections: list[Connection] = []
    try:
        async with asyncio.timeout(order.seconds + _GRACE):
            for headers in order.sessions:
                new = partial(Connection, load, header_lines(headers))
                _, connection = await loop.create_connection(new, "127.0.0.1", order.port)
                connections.append(connection)
            await asyncio.gather(*(connection.warm_up(order.warm_up) for connection in connections))
            return await _measured(order, load, connections)
    except TimeoutError:
        raise BenchError(f"no answer within {order.seconds + _GRACE:.0f} s") from None
    except OSError as error:
        raise BenchError(f"connecting or reading a process's clock failed: {error}") from error
    finally:
        for connection in connections:
            connection.close()


async def _measured(order: Order, load: Load, connections: list[Connection]) -> Result:
    cpu = {name: cpu_seconds(pids) for name, pids in order.clocks.items()}
    own = time.process_time()
    start = time.perf_counter()
    load.deadline = start + order.seconds
    await asyncio.gather(*(connection.run() for connection in connections))
    seconds = time.perf_counter() - start
    own = time.process_time() - own
    cpu = {name: cpu_seconds(pids) - cpu[name] for name, pids in order.clocks.items()}
    latencies = sorted(load.latencies)
    return Result(
        calls=len(latencies),
        seconds=seconds,
        p50=percentile(latencies, 0.50),
        p99=percentile(latencies, 0.99),
        cpu=cpu,
        client_cpu=own,
    )


def main() -> None:
    """Processes orders until the end of standard input."""
    for line in sys.stdin.buffer:
        try:
            answer = Answer(result=uvloop.run(run(msgspec.json.decode(line, type=Order))))
        except BenchError as error:
            answer = Answer(failure=Failure(error=str(error)))
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
