"""The optional parts of the Compose file, each where its images can be had."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from mcp import MCPError
from mcp.client.client import Client

from tests.compose.docker import LOCAL_DOCKER, Stack, require_engine, run, running, until_logged
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(1800)

DEADLINE = 60.0


def require_images(env_file: str, *services: str) -> None:
    """Skip the test where there is no image of one of these services. Other images may be named by the environment."""
    require_engine()
    configuration: dict[str, Any] = yaml.safe_load(Stack(env_file).compose("config"))
    for service in services:
        image = configuration["services"][service]["image"]
        if not _is_here(image):
            pytest.skip(f"the image {image} is not here, and can't be pulled")


def _is_here(image: str) -> bool:
    if run("docker", "image", "ls", "--quiet", image).strip():
        return True
    if LOCAL_DOCKER.exists():
        return False  # there is no registry
    return "Status:" in run("docker", "pull", image, check=False)


async def test_the_real_rate_limit_service_counts() -> None:
    """Sessions share the limit of one tool; lists and other tools go on."""
    require_images("compose/ratelimit.env", "ratelimit", "redis")
    with running("compose/ratelimit.env") as stack:
        await until_logged(stack, "ratelimit", "Listening for gRPC")
        await _until_it_counts(stack.url)
        refused = 0
        for _ in range(4):
            async with Client(stack.url) as client:
                assert len((await client.list_tools()).tools) == 7
                for _ in range(3):
                    said = await _refusal(client)
                    assert said is None or said.startswith("Too many requests: try again in")
                    refused += said is not None
        # 12 in one minute, or in two, whenever the second began.
        assert 2 <= refused <= 7


async def _until_it_counts(url: str) -> None:
    """Envoy has connected to the service: before, it refuses what it can't have counted."""
    async with Client(url) as client:

        async def counts() -> bool:
            try:
                await client.call_tool("date__today", {})
            except MCPError:
                return False
            return True

        await eventually(counts, "calls are counted", seconds=DEADLINE)


async def _refusal(client: Client) -> str | None:
    """What a client is told that makes a note; ``None`` where it was made."""
    try:
        await client.call_tool("notes__create", {"title": "Milk", "text": "two bottles"})
    except MCPError as error:
        return str(error)
    return None


async def test_the_collector_gets_a_record_for_each_request() -> None:
    require_images("compose/otel.env", "otel")
    with running("compose/otel.env") as stack:
        async with Client(stack.url) as client:
            await client.call_tool("date__weekday", {"day": "2026-11-21"})
        await until_logged(stack, "otel", "gen_ai.tool.name: Str(weekday)")
        log = stack.compose("logs", "--no-color", "otel")
        assert "service.name: Str(mcp-gateway)" in log
        assert "mcp.method.name: Str(initialize)" in log
