"""The bridge's process: it is told of its servers on standard input, and ends when that ends.

So it notices that its supervisor is gone, however that ended: nobody else has the other end of the pipe.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress

import msgspec
from aiohttp import web

from mcp_extproc import processes
from mcp_extproc.bridge.child import GRACE_SECONDS
from mcp_extproc.bridge.server import BridgeServer
from mcp_extproc.bridge.spec import Told
from mcp_extproc.telemetry import log

MESSAGE_BYTES = 64 << 20
"""Most bytes of what the supervisor says at once. A file of the configuration has 1 MiB."""

_REQUEST_BYTES = 1 << 30
"""More than any configuration allows. Envoy has the limit on requests, which may change while this runs."""

_LOG = log.logger("bridge")


def serve(listening: socket.socket, answers: int) -> None:
    """Serve until standard input ends, or SIGTERM. Blocks.

    Args:
        listening: where Envoy connects.
        answers: descriptor to which a line is written for each that came on standard input, once it is in effect.
    """
    processes.adopt_orphans()
    if sys.version_info < (3, 12) and _has_pidfd():
        # Later the default; before, there is a thread for each child.
        asyncio.get_event_loop_policy().set_child_watcher(asyncio.PidfdChildWatcher())
    # Not on uvloop (0.23): whatever it starts inherits our descriptors, the listening socket among them.
    asyncio.run(_serve(listening, answers))


def _has_pidfd() -> bool:
    """Whether a descriptor can tell of a child's end (pidfd_open(2)): older systems, and some sandboxes, have none."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


async def _serve(listening: socket.socket, answers: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    bridge = BridgeServer()
    runner = web.AppRunner(
        bridge.application(_REQUEST_BYTES), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    told = asyncio.create_task(_obey(bridge, web.SockSite(runner, listening), answers))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({told, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if told.done() and not told.cancelled() and (error := told.exception()) is not None:
        log.failure(_LOG, "bridge_failed", error)
    for task in (told, stopped):
        task.cancel()
    await bridge.close()
    await runner.cleanup()
    await _end_what_is_left()


async def _obey(bridge: BridgeServer, site: web.SockSite, answers: int) -> None:
    """Do what is said on standard input, until it ends."""
    reader = asyncio.StreamReader(limit=MESSAGE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    serving = False
    while line := await reader.readline():
        bridge.apply(msgspec.json.decode(line, type=Told))
        if not serving:
            # Not before: until it knows its servers, it would know none of their sessions.
            await site.start()
            serving = True
        os.write(answers, b"\n")


async def _end_what_is_left() -> None:
    """Everything below us is a child's, and may start more meanwhile."""
    with suppress(TimeoutError):
        async with asyncio.timeout(GRACE_SECONDS):
            for pause in processes.pauses():
                if not (left := (await processes.LOOKS.next(pause)).strays):
                    return
                processes.send(signal.SIGKILL, left)
