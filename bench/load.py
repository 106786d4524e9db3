"""The load client: a process of its own that calls tools as fast as the answers come, and looks at every one.

    python -m bench.load

reads orders from standard input and ends when it does (see bench/slices.py). Requests are built beforehand but for the id,
which no two calls share and which is in the arguments too: an answer that went to the wrong call is seen.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from typing import Any, cast

import msgspec
import orjson
import uvloop

from bench.clock import cpu_seconds
from bench.errors import BenchError
from bench.http1 import Message, Reader
from bench.slices import Answer, Failure, Order, Result
from bench.stats import percentile
from bench.upstream import answer_text

_WARM_UP = 10
"""Calls of each connection before the clocks are read: Envoy opens its connections, caches fill."""

_GRACE = 15.0
"""Seconds beyond a slice's own in which every answer must be there. A gateway that is that slow is broken."""

_FIRST_ID = 100_000_000
"""All ids have as many digits, so that the length of a request is known beforehand."""

_LINE = 'def echo(text: str) -> str:\n    return "said: " + text  # \u00e4\n'
"""The ballast is source code: what agents send in bulk, with something to escape in every line."""


class Request:
    """A tools/call, ready but for its id."""

    def __init__(self, order: Order, tool: str) -> None:
        self.content = (_LINE * (order.content // len(_LINE) + 1))[: order.content]
        arguments = {"text": "%d"} | ({"content": self.content} if order.content else {})
        params = orjson.dumps({"name": tool, "arguments": arguments})
        before, _, after = params.partition(b"%d")
        body = (b'{"jsonrpc":"2.0","id":', b',"method":"tools/call","params":' + before, after + b"}")
        length = sum(map(len, body)) + 2 * len(str(_FIRST_ID))
        headers = {
            "host": f"127.0.0.1:{order.port}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "content-length": str(length),
            **order.headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._parts = (f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode() + body[0], body[1], body[2])

    def with_id(self, id: int) -> bytes:
        """The bytes of the call with that id."""
        digits = b"%d" % id
        return digits.join(self._parts)

    def check(self, id: int, answer: Message) -> None:
        """Raises BenchError unless the answer is the right one, in status, id and content."""
        try:
            message = orjson.loads(answer.body) if answer.status == 200 else None
            if message is not None and message["id"] == id and message["result"]["content"] == self._content(id):
                return
        except (orjson.JSONDecodeError, KeyError, TypeError):
            pass
        raise BenchError(
            f"a wrong answer to the call with id {id}: expected the content {self._content(id)}, "
            f"got status {answer.status} and {answer.body[:500]!r}"
        )

    def _content(self, id: int) -> list[dict[str, Any]]:
        return [{"type": "text", "text": answer_text(str(id), self.content)}]


class Load:
    """One slice: the calls of all connections together."""

    def __init__(self, order: Order) -> None:
        self._requests = itertools.cycle([Request(order, tool) for tool in order.tools])
        self._ids = itertools.count(_FIRST_ID)
        self.latencies: list[float] = []
        """Seconds, of the measured calls only."""
        self.deadline = 0.0
        """When connections stop asking, by `time.perf_counter`."""

    def next_call(self) -> tuple[int, Request]:
        """A fresh id and whose turn it is."""
        return next(self._ids), next(self._requests)


class Connection(asyncio.Protocol):
    """One connection, with at most one call under way."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._reader = Reader()
        self._transport: asyncio.Transport
        self._call: tuple[int, Request] | None = None
        self._sent = 0.0
        self._calls_left = 0
        self._done: asyncio.Future[None] | None = None

    async def warm_up(self) -> None:
        """Makes some calls. Raises BenchError if an answer is wrong or the connection ends."""
        self._calls_left = _WARM_UP
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
        data = request.with_id(id)
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
    """Runs one slice. Raises BenchError if an answer is wrong or missing."""
    load = Load(order)
    loop = asyncio.get_running_loop()
    connections: list[Connection] = []
    try:
        async with asyncio.timeout(order.seconds + _GRACE):
            for _ in range(order.connections):
                _, connection = await loop.create_connection(lambda: Connection(load), "127.0.0.1", order.port)
                connections.append(connection)
            await asyncio.gather(*(connection.warm_up() for connection in connections))
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
    """Serves orders until standard input ends."""
    for line in sys.stdin.buffer:
        try:
            answer = Answer(result=uvloop.run(run(msgspec.json.decode(line, type=Order))))
        except BenchError as error:
            answer = Answer(failure=Failure(error=str(error)))
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
