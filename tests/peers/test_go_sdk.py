"""The Go SDK's example server as a stdio server behind ``mcp-extproc run``, beside one on the Python SDK."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from mcp.client.client import Client
from mcp_types import PromptReference, ResourceLink, TextContent, TextResourceContents

from tests.support.golang import built
from tests.support.person import Person, call
from tests.support.processes import children_of, free_port, gone, http_server
from tests.support.run_command import announced, running, write
from tests.support.waiting import PATIENCE

pytestmark = [
    pytest.mark.timeout(900),  # it may have to be built
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

SOURCE = "github.com/modelcontextprotocol/go-sdk/examples/server/everything@v1.8.0"


async def test_all_that_it_can_do(tmp_path: Path) -> None:
    port = free_port()
    python = [sys.executable, "-W", "ignore", "-m", "tests.support.sdk_rich_server", "python", str(port)]
    file = write(tmp_path, {"mcpServers": {
        "go": {"command": built(SOURCE)}, "python": {"url": f"http://localhost:{port}/mcp"},
    }})  # fmt: skip
    person = Person()
    async with (
        http_server(python, port, log=tmp_path / "python.log"),
        running(file, "--port", "0", "--json") as process,
    ):
        ready = await announced(process)
        assert {server["name"]: server["problem"] for server in ready["servers"]} == {"go": None, "python": None}
        async with person.client(ready["url"]) as client:
            await _answers(client)
            await _asks_and_tells(client, person)
            assert await call(client, "python__who", n=1) == "python: 1 (1)"
        started = children_of(process.pid)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE):
            await process.communicate()
        assert process.returncode == 0
        await gone(started)


async def _answers(client: Client) -> None:
    assert client.instructions is not None
    assert "Use this server!" in client.instructions
    assert await call(client, "go__greet", name="you") == "Hi you"
    # A name with a blank and parentheses.
    structured = await client.call_tool("go__greet (structured)", {"name": "you"})
    assert structured.structured_content == {"message": "Hi you"}
    [link] = (await client.call_tool("go__greet (content with ResourceLink)", {"name": "you"})).content
    assert isinstance(link, ResourceLink)
    [message] = (await client.get_prompt("go__greet", {"name": "me"})).messages
    assert isinstance(message.content, TextContent)
    assert message.content.text == "Say hi to me"
    told = await client.complete(PromptReference(type="ref/prompt", name="go__greet"), {"name": "name", "value": "A"})
    assert told.completion.values == ["Ax"]
    [uri] = [r.uri for r in (await client.list_resources()).resources if r.uri.startswith("go+")]
    [content] = (await client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    assert (content.uri, content.text) == (uri, "This is the hello example server.")
    templates = [t.uri_template for t in (await client.list_resource_templates()).resource_templates]
    assert "go+http://example.com/~{resource_name}/" in templates


async def _asks_and_tells(client: Client, person: Person) -> None:
    assert await call(client, "go__sample") == "<>"
    assert await call(client, "go__elicit (form)") == "<go: provide a random string>"
    assert await call(client, "go__elicit (url)") == "(elicitation pending)"
    assert person.urls == [("http://localhost:6062?id=1", "go:1")]
    assert await call(client, "go__roots") == ":file:///home"
    assert not (await client.call_tool("go__ping", {})).is_error
    await client.set_logging_level("error")
    assert not (await client.call_tool("go__log", {})).is_error
    await person.until(lambda: ("go", "something happened!") in [(log.logger, log.data) for log in person.logs])
