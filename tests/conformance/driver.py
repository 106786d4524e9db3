"""The client that the suite tests in client mode: ``python -m tests.conformance.driver [--gateway] URL``.

The suite starts it once for each scenario, which it names in the environment, and is the server at the URL. With
``--gateway``, a gateway whose only server is the suite is started in between: what the suite then checks is the
gateway's upstream side.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp.client import ClientRequestContext
from mcp.client.client import Client
from mcp_types import ElicitRequestFormParams, ElicitRequestParams, ElicitResult

from tests.conformance.suite import CLIENT_SECONDS
from tests.support.gateway import gateway

SECONDS = CLIENT_SECONDS - 30
"""Deadline. The rest is for ending the gateway."""


async def initialize(client: Client) -> None:
    await client.list_tools()


async def tools_call(client: Client) -> None:
    await client.list_tools()
    await client.call_tool("add_numbers", {"a": 5, "b": 3})


async def sse_retry(client: Client) -> None:
    await client.list_tools()
    await client.call_tool("test_reconnection", {})


async def elicitation_defaults(client: Client) -> None:
    await client.list_tools()
    await client.call_tool("test_client_elicitation_defaults", {})


async def json_schema_preservation(client: Client) -> None:
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    schema = tools["json_schema_2020_12_tool"].input_schema
    await client.call_tool("json_schema_echo", {"schema": schema})


SCENARIOS: dict[str, Callable[[Client], Awaitable[None]]] = {
    "initialize": initialize,
    "tools_call": tools_call,
    "sse-retry": sse_retry,
    "elicitation-sep1034-client-defaults": elicitation_defaults,
    "json-schema-2020-12-preservation": json_schema_preservation,
}
"""What the client does, by the suite's name of the scenario. What it sees is checked by the suite, not here."""


async def accept_defaults(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
    """The user who changes nothing in a form."""
    assert isinstance(params, ElicitRequestFormParams)
    properties: dict[str, Any] = params.requested_schema.get("properties", {})
    defaults = {name: schema["default"] for name, schema in properties.items() if "default" in schema}
    return ElicitResult(action="accept", content=defaults)


async def run(scenario: str, url: str, through_gateway: bool) -> None:
    """Do what a scenario wants, through a gateway or not.

    Raises:
        TimeoutError: it took too long. The gateway was ended nevertheless.
    """
    async with asyncio.timeout(SECONDS):
        async with _gateway_to(url) if through_gateway else _nothing(url) as endpoint:
            async with Client(endpoint, mode="legacy", elicitation_callback=accept_defaults) as client:
                await SCENARIOS[scenario](client)


@asynccontextmanager
async def _gateway_to(url: str) -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory(prefix="conformance-") as directory:
        async with gateway(Path(directory), {"suite": {"url": url, "prefix": ""}}) as running:
            yield running.url


@asynccontextmanager
async def _nothing(url: str) -> AsyncIterator[str]:
    yield url


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.driver", description=__doc__)
    parser.add_argument("--gateway", action="store_true", help="start a gateway in between")
    parser.add_argument("url")
    arguments = parser.parse_args()
    scenario = os.environ["MCP_CONFORMANCE_SCENARIO"]
    try:
        asyncio.run(run(scenario, arguments.url, arguments.gateway))
    except Exception as error:
        traceback.print_exc()
        raise SystemExit(f"{scenario}: {_innermost(error)!r}") from error


def _innermost(error: BaseException) -> BaseException:
    """The error that a task group, or several around one another, wrapped."""
    return _innermost(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


if __name__ == "__main__":
    main()
