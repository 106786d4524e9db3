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
from tests.chaos.hostile_server import DID
from tests.chaos.load import Load, load
from tests.support.gateway import TestClient, gateway
from tests.support.processes import ROOT, free_port, http_server, program

CALM = "calm"
"""The server that the other client calls. The hostile one is merged with it."""

CALM_CHILD = "calm_child"
"""A stdio server that it calls, too, where the hostile one is one."""

SESSIONS = 4
"""Of the other client."""

_BEFORE_SECONDS = 1.5
"""For the figures without the attack."""


@dataclass(frozen=True, slots=True)
class Attack:
    """Something that somebody does for a few seconds, and until it has done the least that counts.

    Attributes:
        name: for people.
        client: what a client does, of those in ``hostile_client.py``.
        least: what of it, and how often. What other machines do in the time is more, or less: it is no measurement.
        server: what a server does, of those in ``hostile_server.py``; ``None`` for a stdio server, that of ``children.py``.
        server_least: what the server does, likewise.
        section: of the hostile server in the configuration, beside its URL.
    """

    name: str
    client: str
    least: Mapping[str, int]
    server: str | None = "quiet"
    server_least: Mapping[str, int] = field(default_factory=dict)
    section: Mapping[str, Any] = field(default_factory=dict)

    @property
    def calm(self) -> Sequence[str]:
        """The servers that the other client calls."""
        return [CALM, CALM_CHILD] if self.server is None else [CALM]


_PATTERN = {"tools": {"includeRegex": ["^(a|aa)+$"]}}

ATTACKS = (
    Attack("a server floods a hundred streams with `ping`", "streams", {"kept": 100}, "pinging", {"pings": 10_000}),
    Attack("lists with three million wrong entries, ten at a time", "lists", {"HTTP 200": 10}, "bad entries", {"lists": 10}),
    Attack("names of 60 kB against a regular expression, in calls", "long_names", {"HTTP 200": 100}, section=_PATTERN),
    Attack("names of 60 kB against a regular expression, in lists", "lists", {"HTTP 200": 10}, "long names", {"lists": 10},
           section=_PATTERN),
    Attack("bodies of 4 MiB with 350,000 members", "too_many_members", {"HTTP 400": 10}),
    Attack("bodies of 4 MiB with 99,000 members", "large_bodies", {"HTTP 200": 4}),
    Attack("lists of 10 MiB, forty at a time", "many_lists", {"HTTP 200": 40}, "large lists", {"lists": 10}),
    Attack("subscriptions, heads and sessions to be remembered", "memories", {"HTTP 200": 40}),
    Attack("a server closes a hundred streams, with `retry: 0`", "streams", {"kept": 100}, "closing", {"closed": 100}),
    Attack("2,000 idle connections, and 200 bodies that come slowly", "connections", {"connections": 2_200}),
    Attack("1,000 streams with much to say, which nobody reads", "unread_streams", {"HTTP 200": 1_000}, "talking",
           {"bytes": 64 << 20}),
    Attack("HTTP/2 requests that are reset at once", "resets", {"reset": 1_000}),
    Attack("children of a stdio server are killed in calls", "killed_children", {"killed": 4}, None),
    Attack("a stdio server takes 512 MB of memory", "hungry_children", {"bytes": 512 << 20}, None),
    Attack("stdio servers flood their output with messages", "messages_of_children", {"bytes": 1 << 19}, None),
    Attack("stdio servers flood their outputs with junk", "junk_of_children", {"bytes": 1 << 19}, None),
    Attack("stdio servers write lines without end", "lines_of_children", {"bytes": 20 << 20}, None),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it."""

    attack: Attack
    load: Load
    did: Mapping[str, int]
    """What the attacker did, or was answered, and how often."""
    server_did: Mapping[str, int]
    """What the hostile server did."""
    before: Sequence[float]
    """Seconds that the other client's calls took before."""
    during: Sequence[float]
    """Meanwhile."""


async def run(attack: Attack, folder: Path) -> Result:
    """Start everything, attack, and wait until all of the other client's calls are answered one after the other."""
    async with AsyncExitStack() as stack:
        sections = await _servers(attack, folder, stack)
        # One worker: the attacked one is the other client's, too.
        running = await stack.enter_async_context(gateway(folder, sections, workers=1, log={"access": ""}))
        # Each call on a connection of its own: those who come later are served as well.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        calls = await stack.enter_async_context(load(TestClient(running.url, http), SESSIONS, attack.calm))
        calls.forget_seconds()
        await asyncio.sleep(_BEFORE_SECONDS)
        before = calls.seconds
        calls.forget_seconds()
        did = await _attacked(attack, running.url, folder)
        during = calls.seconds
        server_did = await _asked(http, sections["hostile"])
        await calls.until_well()
        return Result(attack, calls, did, server_did, before, during)


async def _servers(attack: Attack, folder: Path, stack: AsyncExitStack) -> dict[str, dict[str, Any]]:
    """Start those that the gateway does not start itself. Returns the sections of all in its configuration."""
    kinds = {CALM: "calm"} if attack.server is None else {CALM: "calm", "hostile": attack.server}
    ports = {name: free_port() for name in kinds}
    servers = [
        http_server([sys.executable, "-m", "tests.chaos.hostile_server", kind, str(ports[name])], ports[name],
                    log=folder / f"{name}.log")
        for name, kind in kinds.items()
    ]  # fmt: skip
    await asyncio.gather(*map(stack.enter_async_context, servers))
    sections: dict[str, dict[str, Any]] = {
        name: {"url": f"http://127.0.0.1:{port}/mcp"} for name, port in ports.items()
    }
    if attack.server is None:
        sections |= {name: _child(name) for name in (CALM_CHILD, "hostile")}
    sections["hostile"] |= attack.section
    return sections


def _child(name: str) -> dict[str, Any]:
    return {"command": [sys.executable, "-S", "-m", "tests.chaos.children", name], "cwd": str(ROOT)}


async def _attacked(attack: Attack, url: str, folder: Path) -> Mapping[str, int]:
    """Returns what the attacker did, once it has ended."""
    log = folder / "attacker.log"
    command = [sys.executable, "-m", "tests.chaos.hostile_client", attack.client, url, json.dumps(attack.least)]
    async with program(command, log=log) as attacker:
        code = await attacker.wait()
    said = log.read_text()
    assert code == 0, said
    did: dict[str, int] = json.loads(said.splitlines()[-1])
    return did


async def _asked(http: aiohttp.ClientSession, section: Mapping[str, Any]) -> Mapping[str, int]:
    """What the hostile server says of itself; a stdio server answers the attacker."""
    if "url" not in section:
        return {}
    async with http.get(f"{section['url']}{DID}") as response:
        did: dict[str, int] = await response.json()
    return did


def p99(seconds: Sequence[float]) -> float:
    """In seconds."""
    return percentile(sorted(seconds), 0.99)
