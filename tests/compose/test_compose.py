"""``docker compose up``, for real: it serves, its containers can do little, it recovers, and nothing of it is left.

The tests share one stack and run in their order; the last one takes it down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from mcp.client.client import Client
from mcp_types import TextContent

from tests.compose.docker import (
    BASE,
    GATEWAY,
    SAMPLES,
    Stack,
    image_bytes,
    require_engine,
    run,
    running,
    take_down,
    until_logged,
)
from tests.compose.traffic import Tally, traffic

pytestmark = pytest.mark.timeout(1800)

RECOVERY_SECONDS = 120.0
"""Far more than it needs."""

MEGABYTES = 140
"""That an image may add to its base. Thirteen are conditions in CEL, whose package needs all that its command line does."""

CALLS = {
    "notes": ("notes__list", {}),
    "dates": ("date__weekday", {"day": "2026-11-21"}),
    "dates again": ("date__days_between", {"start": "2026-01-01", "end": "2026-12-31"}),
}

WORKERS = 2
"""In the gateway's container."""

SERVICES = ("envoy", "gateway", "notes", "dates")


@pytest.fixture(scope="module")
def stack(mounted: Path) -> Iterator[Stack]:
    require_engine()
    with running(mounted=mounted) as stack:
        yield stack


async def weekday(client: Client) -> str:
    result = await client.call_tool("date__weekday", {"day": "2026-11-21"})
    [block] = result.content
    assert isinstance(block, TextContent)
    return block.text


async def test_both_servers_behind_one_url(stack: Stack) -> None:
    """With the official SDK's client."""
    async with Client(stack.url) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == [
            "notes__create", "notes__list", "notes__search",
            "date__today", "date__weekday", "date__add_days", "date__days_between",
        ]  # fmt: skip
        created = await client.call_tool("notes__create", {"title": "Milk", "text": "two bottles"})
        assert created.structured_content == {"id": 1, "title": "Milk", "text": "two bottles"}
        assert await weekday(client) == "Saturday"
    await until_logged(stack, "envoy", '"mcp.server":"dates"')


def test_two_workers_serve(stack: Stack) -> None:
    said = stack.execute("gateway", "mcp-extproc", "health")
    assert said.splitlines() == [f"unix:/run/mcp-extproc/extproc-{number}.sock: serving" for number in range(WORKERS)]
    assert stack.inspect("gateway")["State"]["Health"]["Status"] == "healthy"


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_can_do_little(stack: Stack, service: str) -> None:
    status = dict(line.split(":\t", 1) for line in stack.execute(service, "cat", "/proc/1/status").splitlines())
    assert set(status["Uid"].split()) == {"10001"}
    assert set(status["Gid"].split()) == {"10001"}
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    for folder in ("/", "/usr", "/tmp", "/etc/mcp-extproc"):
        tried = stack.execute(service, "sh", "-c", f"touch {folder}/new 2>&1 || true", root=True)
        assert "Read-only file system" in tried or "No such file" in tried, (folder, tried)


def test_only_one_port_of_this_machine_is_open(stack: Stack) -> None:
    published = {service: stack.inspect(service)["HostConfig"]["PortBindings"] or {} for service in SERVICES}
    assert published.pop("envoy") == {"1975/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(stack.port)}]}
    assert set(map(str, published.values())) == {"{}"}


def test_nobody_reaches_what_is_private(stack: Stack) -> None:
    """The gateway has no network, the servers only the one that Envoy has too, and Envoy's private listeners no port."""
    assert _interfaces(stack, "gateway") == {"lo"}
    for service in ("notes", "dates"):
        [network] = stack.inspect(service)["NetworkSettings"]["Networks"]
        assert network == f"{stack.project}_servers"
        assert run("docker", "network", "inspect", "--format", "{{.Internal}}", network) == "true\n"
    assert _listening(stack, "envoy") == {1975}
    assert stack.execute("envoy", "stat", "--format", "%u %a", "/run/mcp-extproc") == "10001 700\n"


def _interfaces(stack: Stack, service: str) -> set[str]:
    lines = stack.execute(service, "cat", "/proc/net/dev").splitlines()[2:]
    return {line.partition(":")[0].strip() for line in lines}


def _listening(stack: Stack, service: str) -> set[int]:
    """TCP ports, without that of Docker's own name server."""
    lines = stack.execute(service, "sh", "-c", "tail -q -n +2 /proc/net/tcp /proc/net/tcp6").splitlines()
    listening = [line.split()[1].split(":") for line in lines if line.split()[3] == "0A"]
    return {int(port, 16) for address, port in listening if address != "0B00007F"}


def test_the_images_are_small(stack: Stack) -> None:
    base, *images = image_bytes(BASE, GATEWAY, SAMPLES)
    assert all(size - base < MEGABYTES * 1_000_000 for size in images), [size - base for size in images]
    # What `run` would start has an image of its own.
    assert stack.execute("gateway", "sh", "-c", "find / -xdev -size +40M 2>/dev/null || true") == ""


async def test_the_gateway_is_killed_while_clients_call(stack: Stack) -> None:
    """Every call gets an answer or an HTTP error, the container comes back, and sessions go on.

    The sample servers answer with event streams of sessions, which a worker reads. The one that a caller may have open at a
    worker that ends breaks off, and that is its error.
    """
    async with Client(stack.url) as client, traffic(stack.url, CALLS) as tally:
        await tally.all_served(20, RECOVERY_SECONDS)
        before = stack.inspect("gateway")["State"]["StartedAt"]
        assert not tally.refused
        await asyncio.to_thread(stack.kill, "gateway")
        seconds = await tally.all_served(20, RECOVERY_SECONDS)
        assert stack.inspect("gateway")["State"]["StartedAt"] != before
        assert await weekday(client) == "Saturday"
    print(f"\ngateway killed: recovered after {seconds:.1f} s; {tally}")
    assert not tally.lost
    assert tally.broken <= WORKERS * len(CALLS)  # they do not end at the same moment
    assert not tally.errors
    assert set(tally.refused) <= {503, 504}  # 504: a call has waited too long for the new one
    assert tally.refused, "nothing was refused: it was not killed in mid-traffic"


async def test_envoy_is_killed(stack: Stack) -> None:
    """Connections break; then the same sessions go on."""
    async with traffic(stack.url, CALLS) as tally:
        await tally.all_served(5, RECOVERY_SECONDS)
        before = stack.inspect("envoy")["State"]["StartedAt"]
        await asyncio.to_thread(stack.kill, "envoy")
        seconds = await tally.all_served(20, RECOVERY_SECONDS)
        assert stack.inspect("envoy")["State"]["StartedAt"] != before
    print(f"\nEnvoy killed: recovered after {seconds:.1f} s; {tally}")
    assert not tally.errors
    async with Client(stack.url) as client:
        assert len((await client.list_tools()).tools) == 7
        assert await weekday(client) == "Saturday"


async def test_a_server_is_killed(stack: Stack) -> None:
    """Its calls fail until it is back; then the sessions go on that it has lost. Those to the other server never fail."""
    async with traffic(stack.url, CALLS) as tally:
        await tally.all_served(5, RECOVERY_SECONDS)
        before = stack.inspect("notes")["State"]["StartedAt"]
        await asyncio.to_thread(stack.kill, "notes")
        seconds = await tally.all_served(20, RECOVERY_SECONDS)
        assert stack.inspect("notes")["State"]["StartedAt"] != before
    print(f"\nserver killed: recovered after {seconds:.1f} s; {tally}")
    assert not tally.lost
    assert not tally.refused
    assert all("'notes'" in message for message in tally.errors)


async def test_a_changed_configuration_is_taken_up(stack: Stack, mounted: Path) -> None:
    """From the folder that is mounted, while clients call; one that is wrong is refused, and all goes on."""
    file = mounted / "gateway.yaml"
    text = file.read_text(encoding="utf-8")
    async with traffic(stack.url, CALLS) as tally:
        _replace(file, text.replace("exclude: [delete]", "exclude: []"))
        await until_logged(stack, "gateway", "exclude is empty")
        _replace(file, text.replace("exclude: [delete]", "exclude: [search]"))
        await until_logged(stack, "gateway", "config_reloaded")
        await tally.all_served(20, RECOVERY_SECONDS)
        async with Client(stack.url) as client:
            tools = [tool.name for tool in (await client.list_tools()).tools]
    print(f"\nconfiguration changed: {tally}")
    assert tools[:3] == ["notes__create", "notes__list", "notes__delete"]
    assert str(tally) == str(Tally(results=tally.results))


def _replace(file: Path, text: str) -> None:
    """Write it as editors do: another file takes its place."""
    new = file.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.rename(file)


async def test_taken_down_it_leaves_nothing(stack: Stack) -> None:
    assert all(stack.left().values())
    await asyncio.to_thread(take_down, stack)
    assert stack.left() == {"containers": [], "networks": [], "volumes": []}
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientConnectionError):
            await http.get(stack.url)
