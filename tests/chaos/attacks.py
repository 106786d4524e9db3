"""What hostile clients and servers do to a gateway, and what becomes of another client's calls to another server."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from bench.stats import percentile
from tests.chaos.load import Load, load
from tests.support.gateway import TestClient, gateway
from tests.support.processes import free_port, http_server, program, sdk_server

CALM = "calm"
"""The server that the other client calls. The hostile one is merged with it."""

SESSIONS = 4
"""Of the other client."""

_BEFORE_SECONDS = 1.5
"""For the figures without the attack."""


@dataclass(frozen=True, slots=True)
class Attack:
    """Something that somebody does for a few seconds.

    Attributes:
        name: for people.
        client: what a client does, of those in ``hostile_client.py``.
        server: what a server does, of those in ``hostile_server.py``.
        section: of the hostile server in the configuration, beside its URL.
    """

    name: str
    client: str
    server: str = "quiet"
    section: Mapping[str, Any] = field(default_factory=dict)


ATTACKS = (
    Attack("a server floods a hundred streams with `ping`", "streams", "pinging"),
    Attack("lists with three million wrong entries, ten at a time", "lists", "bad entries"),
    Attack("names of 60 kB against a regular expression, in calls", "long_names", section={
        "tools": {"includeRegex": ["^(a|aa)+$"]}}),
    Attack("names of 60 kB against a regular expression, in lists", "lists", "long names", section={
        "tools": {"includeRegex": ["^(a|aa)+$"]}}),
    Attack("bodies of 4 MiB with 350,000 members", "too_many_members"),
    Attack("bodies of 4 MiB with 99,000 members", "large_bodies"),
    Attack("lists of 10 MiB, forty at a time", "many_lists", "large lists"),
    Attack("subscriptions, heads and sessions to be remembered", "memories"),
    Attack("a server closes a hundred streams, with `retry: 0`", "streams", "closing"),
    Attack("2,000 idle connections, and 200 bodies that come slowly", "connections"),
    Attack("1,000 streams with much to say, which nobody reads", "unread_streams", "talking"),
    Attack("HTTP/2 requests that are reset at once", "resets"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it."""

    attack: Attack
    load: Load
    did: Mapping[str, int]
    """What the attacker did, or was answered, and how often."""
    before: Sequence[float]
    """Seconds that the other client's calls took before."""
    during: Sequence[float]
    """Meanwhile."""


async def run(attack: Attack, folder: Path) -> Result:
    """Start everything, attack, and wait until all of the other client's calls are answered one after the other."""
    async with AsyncExitStack() as stack:
        ports = {"calm": free_port(), "hostile": free_port()}
        commands = {
            "calm": sdk_server(CALM, ports["calm"]),
            "hostile": [sys.executable, "-m", "tests.chaos.hostile_server", attack.server, str(ports["hostile"])],
        }
        servers = [http_server(command, ports[name], log=folder / f"{name}.log") for name, command in commands.items()]
        await asyncio.gather(*map(stack.enter_async_context, servers))
        sections = {name: {"url": f"http://127.0.0.1:{port}/mcp"} for name, port in ports.items()}
        sections["hostile"] |= attack.section
        # One worker: the attacked one is the other client's, too.
        running = await stack.enter_async_context(gateway(folder, sections, workers=1, log={"access": ""}))
        # Each call on a connection of its own: those who come later are served as well.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        calls = await stack.enter_async_context(load(TestClient(running.url, http), SESSIONS, [CALM]))
        taken = calls.of[CALM].seconds
        taken.clear()
        await asyncio.sleep(_BEFORE_SECONDS)
        before = taken.copy()
        did = await _attacked(attack, running.url, folder)
        during = taken[len(before) :]
        await calls.until_well()
        return Result(attack, calls, did, before, during)


async def _attacked(attack: Attack, url: str, folder: Path) -> Mapping[str, int]:
    """Returns what the attacker did, once it has ended."""
    log = folder / "attacker.log"
    command = [sys.executable, "-m", "tests.chaos.hostile_client", attack.client, url]
    async with program(command, log=log) as attacker:
        code = await attacker.wait()
    said = log.read_text()
    assert code == 0, said
    did: dict[str, int] = json.loads(said.splitlines()[-1])
    return did


def p99(seconds: Sequence[float]) -> float:
    """In seconds."""
    return percentile(sorted(seconds), 0.99)
