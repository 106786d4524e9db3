"""What the reference server of the TypeScript SDK can do (npm: @modelcontextprotocol/server-everything), tried through a
gateway in front of several servers that have resources."""

from __future__ import annotations

import gzip
from base64 import b64decode

import pytest
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    BlobResourceContents,
    EmbeddedResource,
    ImageContent,
    PromptReference,
    ResourceLink,
    ResourceTemplateReference,
    ResourceUpdatedNotification,
    TextContent,
    TextResourceContents,
)

from tests.support.person import Person, call


async def answers(client: Client, server: str) -> None:
    """Prompts, completion, resources, templates and links."""
    prompt = await client.get_prompt(f"{server}__args-prompt", {"city": "Berlin", "state": "BE"})
    assert isinstance(prompt.messages[0].content, TextContent)
    assert prompt.messages[0].content.text == "What's weather in Berlin, BE?"
    told = await client.complete(
        PromptReference(type="ref/prompt", name=f"{server}__completable-prompt"),
        {"name": "name", "value": "A"},
        {"department": "Engineering"},
    )
    assert told.completion.values == ["Alice"]
    await _resources(client, server)
    links = (await client.call_tool(f"{server}__get-resource-links", {"count": 2})).content[1:]
    for link in links:
        assert isinstance(link, ResourceLink)
        assert (await client.read_resource(link.uri)).contents[0].uri == link.uri


async def _resources(client: Client, server: str) -> None:
    own = [r for r in (await client.list_resources()).resources if r.uri.startswith(f"{server}+")]
    [listed] = [r.uri for r in own if r.name == "architecture.md"]
    [document] = (await client.read_resource(listed)).contents
    assert isinstance(document, TextResourceContents)
    assert document.uri == listed
    assert "Everything Server" in document.text
    templates = [t.uri_template for t in (await client.list_resource_templates()).resource_templates]
    [template] = [t for t in templates if t.startswith(f"{server}+") and "/text/" in t]
    told = await client.complete(
        ResourceTemplateReference(type="ref/resource", uri=template), {"name": "resourceId", "value": "7"}
    )
    assert told.completion.values == ["7"]
    [content] = (await client.read_resource(template.replace("{resourceId}", "7"))).contents
    assert isinstance(content, TextResourceContents)
    assert content.text.startswith("Resource 7: ")


async def contents(client: Client, server: str) -> None:
    """Results of every kind of content."""
    assert await call(client, f"{server}__echo", message="é\n") == "Echo: é\n"
    weather = await client.call_tool(f"{server}__get-structured-content", {"location": "Chicago"})
    assert weather.structured_content == {"temperature": 36, "conditions": "Light rain / drizzle", "humidity": 82}
    [_, image, _] = (await client.call_tool(f"{server}__get-tiny-image", {})).content
    assert isinstance(image, ImageContent)
    assert b64decode(image.data).startswith(b"\x89PNG")
    wanted = {"resourceType": "Blob", "resourceId": 1}
    [_, embedded, _] = (await client.call_tool(f"{server}__get-resource-reference", wanted)).content
    assert isinstance(embedded, EmbeddedResource)
    assert embedded.resource.uri.startswith(f"{server}+")
    packed = {"name": "packed.gz", "data": "data:text/plain,hello", "outputType": "resourceLink"}
    [link] = (await client.call_tool(f"{server}__gzip-file-as-resource", packed)).content
    assert isinstance(link, ResourceLink)
    [content] = (await client.read_resource(link.uri)).contents
    assert isinstance(content, BlobResourceContents)
    assert gzip.decompress(b64decode(content.blob)) == b"hello"
    wrong = await client.call_tool(f"{server}__get-sum", {"a": "one", "b": 2})
    assert wrong.is_error


async def asks(client: Client, person: Person, server: str) -> None:
    """Sampling, elicitation and roots."""
    answer = await call(client, f"{server}__trigger-sampling-request", prompt="hi", maxTokens=10)
    assert "<Resource trigger-sampling-request context: hi>" in answer
    visited = await client.call_tool(
        f"{server}__trigger-url-elicitation", {"url": "https://a.example/", "elicitationId": "elicitation-1"}
    )
    assert isinstance(visited.content[0], TextContent)
    assert "Elicitation ID: elicitation-1\n" in visited.content[0].text
    assert person.urls == [("https://a.example/", f"{server}:elicitation-1")]
    person.urls.clear()
    # -32042: the URL in an error, whose elicitation id has to be the gateway's too.
    with pytest.raises(MCPError) as raised:
        await client.call_tool(f"{server}__trigger-url-elicitation", {"url": "https://b.example/", "errorPath": True})
    assert raised.value.error.code == -32042
    [elicitation] = raised.value.error.data["elicitations"]
    assert elicitation["elicitationId"].startswith(f"{server}:")
    filled = await client.call_tool(f"{server}__trigger-elicitation-request", {})
    assert isinstance(filled.content[1], TextContent)
    assert f"- Name: <{server}: Please provide inputs" in filled.content[1].text
    roots = await call(client, f"{server}__get-roots-list")
    assert "URI: file:///home" in roots


async def tells(client: Client, person: Person, server: str) -> None:
    """Progress, log messages, and updates of what was subscribed to."""
    steps: list[tuple[float, float | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        steps.append((progress, total))

    lasting = {"duration": 0.3, "steps": 3}
    await client.call_tool(f"{server}__trigger-long-running-operation", lasting, progress_callback=on_progress)
    assert steps == [(1, 3), (2, 3), (3, 3)]

    await client.set_logging_level("debug")
    await call(client, f"{server}__toggle-simulated-logging")
    await person.until(lambda: any(log.logger == server for log in person.logs))
    await call(client, f"{server}__toggle-simulated-logging")

    template = [t.uri_template for t in (await client.list_resource_templates()).resource_templates]
    [uri] = [t.replace("{resourceId}", "3") for t in template if t.startswith(f"{server}+") and "/text/" in t]
    await client.subscribe_resource(uri)
    await call(client, f"{server}__toggle-subscriber-updates")
    await person.until(lambda: uri in {told.params.uri for told in person.of(ResourceUpdatedNotification)})
    await call(client, f"{server}__toggle-subscriber-updates")
    await client.unsubscribe_resource(uri)
