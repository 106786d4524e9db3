"""Calls that wait for their user's consent, through real Envoy: asked on their own stream, run once and as they were shown."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitRequestParams, ElicitResult

from tests.e2e.conftest import StartGateway
from tests.e2e.test_policies_one_visit import LUA
from tests.support.gateway import TestGateway
from tests.support.person import text
from tests.support.processes import ROOT
from tests.support.scripted import ScriptedServer, tool
from tests.support.streaming import Events, StreamingServer, calling, reply

FORMS: dict[str, Any] = {"elicitation": {}}

VETTING: list[dict[str, Any]] = [
    {"tools": ["delete"]},
    {"tools": ["purge"], "remember": "session"},
    {"tools": ["slow"], "timeout": "100ms"},
    {"tools": ["lenient"], "without_elicitation": "pass"},
    {"tools": ["pay"], "when": "request.mcp.params.arguments.amount > 100"},
    {"annotations": {"destructiveHint": True, "openWorldHint": False}},
]

ACCEPT = {"action": "accept", "content": {}}


@pytest.fixture
async def gateway(start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer) -> AsyncIterator[TestGateway]:
    """In front of a server that answers in JSON, and one because of which Envoy sends responses along with their requests."""
    async with start({"alpha": alpha.url, "beta": beta.url}, vetting=VETTING) as running:
        yield running


async def asked(events: Events) -> dict[str, Any]:
    """The question on a call's stream."""
    assert (events.status, events.response.content_type) == (200, "text/event-stream"), await events.read()
    assert events.response.headers["x-accel-buffering"] == "no"
    message = await events.message()
    assert message["method"] == "elicitation/create", message
    return message


async def refused(events: Events, reason: str) -> None:
    """The call ends with an error."""
    [error] = await events.rest()
    assert (error["id"], error["error"]["code"], error["error"]["data"]) == (1, -32600, {"reason": reason})


async def consumed(gateway: TestGateway, session: str, id: Any, **members: Any) -> None:
    """An answer to a question is taken, whatever it is worth."""
    answered = await reply(gateway, session, id, **(members or {"result": ACCEPT}))
    assert (answered.status, answered.body) == (202, b"")


@pytest.mark.parametrize("version", ["2025-06-18", "2025-11-25"])
@pytest.mark.parametrize("name", ["alpha", "beta"])
async def test_a_call_runs_with_consent(
    gateway: TestGateway, alpha: ScriptedServer, beta: ScriptedServer, name: str, version: str
) -> None:
    server = {"alpha": alpha, "beta": beta}[name]
    session = await gateway.initialize(version, FORMS)
    async with calling(gateway, session, f"{name}__delete", id="d", arguments={"path": "/x"}) as events:
        question = await asked(events)
        assert server.calls("tools/call") == []
        assert question["params"]["requestedSchema"] == {"type": "object", "properties": {}}
        assert question["params"]["message"].endswith(f'Server: {name}\nTool: "delete"\nArguments:\n  "path": "/x"')
        await consumed(gateway, session, question["id"])
        [result] = await events.rest()
    assert (result["id"], "result" in result) == ("d", True)
    # The same answer once more runs nothing.
    await consumed(gateway, session, question["id"])
    [call] = server.calls("tools/call")
    assert call.message["params"] == {"name": "delete", "arguments": {"path": "/x"}}
    assert not {"x-mcp-consent", "x-mcp-owner"} & call.headers.keys()
    logged = await gateway.logged(**{"mcp.consent": "given", "jsonrpc.request.id": '"d"'})
    assert (logged["mcp.server"], logged["gen_ai.tool.name"], logged["status"]) == (name, "delete", 200)


async def test_anything_but_consent_is_an_error(gateway: TestGateway, alpha: ScriptedServer) -> None:
    session = await gateway.initialize(capabilities=FORMS)
    answers: dict[str, dict[str, Any]] = {
        "declined": {"result": {"action": "decline"}},
        "cancelled": {"result": {"action": "cancel"}},
        "invalid": {"result": {"action": "Accept"}},
        "failed": {"error": {"code": -32601, "message": "no"}},
    }
    for reason, answer in answers.items():
        async with calling(gateway, session, "alpha__delete") as events:
            await consumed(gateway, session, (await asked(events))["id"], **answer)
            await refused(events, f"consent_{reason}")
        logged = await gateway.logged(**{"mcp.consent": reason})
        assert logged["error.type"] == f"consent_{reason}"
    assert alpha.calls("tools/call") == []


async def test_waiting_is_bounded(gateway: TestGateway, alpha: ScriptedServer) -> None:
    session = await gateway.initialize(capabilities=FORMS)
    async with calling(gateway, session, "alpha__slow") as events:
        question = await asked(events)
        withdrawn = await events.message()
        assert (withdrawn["method"], withdrawn["params"]["requestId"]) == ("notifications/cancelled", question["id"])
        await refused(events, "consent_timeout")
    await consumed(gateway, session, question["id"])
    assert alpha.calls("tools/call") == []


async def test_the_client_ends_the_wait(gateway: TestGateway, alpha: ScriptedServer) -> None:
    """By a cancellation, by the end of its session, or by leaving."""
    session = await gateway.initialize(capabilities=FORMS)
    async with calling(gateway, session, "alpha__delete") as events:
        await asked(events)
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        await gateway.send(json.dumps(cancelled).encode(), mcp_session_id=session)
        assert (await events.message())["method"] == "notifications/cancelled"
        await refused(events, "consent_withdrawn")
    async with calling(gateway, session, "alpha__delete", id="left") as events:
        await asked(events)
    assert "mcp.consent" not in await gateway.logged(**{"jsonrpc.request.id": '"left"'})
    async with calling(gateway, session, "alpha__delete") as events:
        await asked(events)
        assert (await gateway.send(None, method="DELETE", mcp_session_id=session)).status == 204
        assert (await events.message())["method"] == "notifications/cancelled"
        await refused(events, "consent_withdrawn")
    assert alpha.calls("tools/call") == []


async def test_nobody_answers_for_somebody_else(gateway: TestGateway, alpha: ScriptedServer) -> None:
    session, other = [await gateway.initialize(capabilities=FORMS) for _ in range(2)]
    async with calling(gateway, session, "alpha__delete") as events:
        question = await asked(events)
        await consumed(gateway, other, question["id"])
        for id in (f"{question['id']}x", 1, "1"):
            await consumed(gateway, session, id)
        await consumed(gateway, session, question["id"], result={"action": "decline"})
        await refused(events, "consent_declined")
    assert alpha.calls("tools/call") == []


async def test_clients_that_cannot_ask_are_refused(gateway: TestGateway, alpha: ScriptedServer) -> None:
    """Those without elicitation of forms, and all of 2025-03-26, batches included."""
    url_only: dict[str, Any] = {"elicitation": {"url": {}}}
    for version, capabilities in (("2025-11-25", {}), ("2025-11-25", url_only), ("2025-03-26", FORMS)):
        session = await gateway.initialize(version, capabilities)
        error = (await gateway.call(session, "alpha__delete")).error
        assert (error["code"], error["data"]) == (-32600, {"reason": "consent_unavailable"})
        assert (await gateway.call(session, "alpha__lenient")).result
    calls = [
        {"jsonrpc": "2.0", "id": name, "method": "tools/call", "params": {"name": f"alpha__{name}"}}
        for name in ("delete", "lenient")
    ]
    batch = await gateway.send(json.dumps(calls).encode(), mcp_session_id=session)
    answers = {answer["id"]: answer for answer in json.loads(batch.body)}
    assert answers["delete"]["error"]["data"] == {"reason": "consent_unavailable"}
    assert "result" in answers["lenient"]
    assert {call.message["params"]["name"] for call in alpha.calls("tools/call")} == {"lenient"}


async def test_consent_may_hold_for_the_session(
    gateway: TestGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    session, other = [await gateway.initialize(capabilities=FORMS) for _ in range(2)]
    async with calling(gateway, session, "alpha__purge", arguments={"all": False}) as events:
        await consumed(gateway, session, (await asked(events))["id"])
        assert "result" in (await events.rest())[0]
    assert (await gateway.call(session, "alpha__purge", {"all": True}, id="again")).result
    await gateway.logged(**{"jsonrpc.request.id": '"again"', "mcp.consent": "remembered"})
    assert len(alpha.calls("tools/call")) == 2
    # Not for another session, nor for another server's tool of that name.
    for one, name in ((other, "alpha__purge"), (session, "beta__purge")):
        async with calling(gateway, one, name) as events:
            await consumed(gateway, one, (await asked(events))["id"], result={"action": "decline"})
            await refused(events, "consent_declined")


async def test_conditions_and_annotations_choose(gateway: TestGateway, alpha: ScriptedServer) -> None:
    alpha.pages = [
        [tool("wipe", annotations={"openWorldHint": False}), tool("look", annotations={"destructiveHint": False})]
    ]
    session = await gateway.initialize(capabilities=FORMS)
    for name, amount in (("pay", 100), ("look", 101)):
        assert (await gateway.call(session, f"alpha__{name}", {"amount": amount})).result
    for name, more in (("pay", 101), ("pay", "many"), ("wipe", 1)):
        async with calling(gateway, session, f"alpha__{name}", arguments={"amount": more}) as events:
            await consumed(gateway, session, (await asked(events))["id"], result={"action": "decline"})
            await refused(events, "consent_declined")


async def test_a_large_call_is_shown_in_part_and_runs_whole(gateway: TestGateway, alpha: ScriptedServer) -> None:
    session = await gateway.initialize(capabilities=FORMS)
    arguments = {"text": "ä" * 150_000, "path": "/\u202etxt.exe"}
    async with calling(gateway, session, "alpha__delete", arguments=arguments) as events:
        question = await asked(events)
        shown = question["params"]["message"]
        assert len(shown) < 10_000
        assert "[cut: 150000 characters in all]" in shown
        assert '"path": "/\\u202etxt.exe"' in shown
        await consumed(gateway, session, question["id"])
        assert "result" in (await events.rest())[0]
    assert alpha.calls("tools/call")[0].message["params"]["arguments"] == arguments


async def test_what_the_server_streams_passes(start: StartGateway) -> None:
    """The server tells and asks on the stream of a call that runs with consent, as on any other."""
    async with StreamingServer("alpha") as alpha, start({"alpha": alpha.url}, vetting=[{}]) as gateway:
        session = await gateway.initialize(capabilities=FORMS)
        async with calling(gateway, session, "alpha__stream", meta={"progressToken": "p"}) as events:
            await consumed(gateway, session, (await asked(events))["id"])
            channel = await alpha.called()
            token = channel.message["params"]["_meta"]["progressToken"]
            await channel.tell("notifications/progress", {"progressToken": token, "progress": 1})
            assert (await events.message())["params"] == {"progressToken": "p", "progress": 1}
            await channel.ask(1, "elicitation/create", {"message": "?", "requestedSchema": {}})
            question = await asked(events)
            assert question["params"]["message"] == "?"
            await consumed(gateway, session, question["id"])
            [answer] = await alpha.answered()
            assert answer.message == {"jsonrpc": "2.0", "id": 1, "result": ACCEPT}
            await channel.answer(result={"content": []})
            [result] = await events.rest()
            assert result["result"] == {"content": []}


# -- Policies -------------------------------------------------------------------------------------------------------------

DENY: dict[str, Any] = {
    "name": "deny",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        "rules": {"action": "DENY", "policies": {"denied": {
            "permissions": [{"sourced_metadata": {"metadata_matcher": {
                "filter": "mcp_proxy", "path": [{"key": "tool"}], "value": {"string_match": {"exact": "denied"}},
            }}}],
            "principals": [{"any": True}],
        }}},
    },
}  # fmt: skip
READS_BODIES: dict[str, Any] = {
    "name": "lua",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": LUA},
    },
}


@pytest.mark.parametrize("filters", [[DENY], [DENY, READS_BODIES]], ids=["early", "first"])
@pytest.mark.parametrize("policies", ["all", "calls"])
async def test_a_denied_call_asks_nobody(
    start: StartGateway, alpha: ScriptedServer, filters: list[dict[str, Any]], policies: str
) -> None:
    """Whenever policies judge a request, and also where its server is known only by what servers list."""
    alpha.pages = [[tool("denied"), tool("delete")]]
    envoy = {"http_filters": filters, "policies": policies}
    async with start({"alpha": alpha.url}, vetting=[{}], envoy=envoy, bare_names=True) as gateway:
        session = await gateway.initialize(capabilities=FORMS)
        for prefix in ("alpha__", ""):
            # Where it passes once more, it is answered with an event stream.
            denied = (await gateway.call(session, f"{prefix}denied")).body.removeprefix(b"data: ")
            assert json.loads(denied)["error"]["data"]["reason"] == "denied"
            async with calling(gateway, session, f"{prefix}delete") as events:
                await consumed(gateway, session, (await asked(events))["id"])
                assert "result" in (await events.rest())[0]
    assert [call.message["params"]["name"] for call in alpha.calls("tools/call")] == ["delete", "delete"]


async def test_what_is_hidden_stays_unknown(start: StartGateway, alpha: ScriptedServer) -> None:
    alpha.pages = [[tool("hidden"), tool("delete")]]
    rules = {"default": "allow", "rules": [{"action": "deny", "tools": ["hidden"]}]}
    async with start(
        {"alpha": alpha.url}, vetting=[{"annotations": {"destructiveHint": True}}], authorization=rules
    ) as gateway:
        session = await gateway.initialize(capabilities=FORMS)
        hidden = await gateway.call(session, "alpha__hidden")
        missing = await gateway.call(session, "alpha__missing")
        assert hidden.body.replace(b"hidden", b"missing") == missing.body
        async with calling(gateway, session, "alpha__delete") as events:
            await consumed(gateway, session, (await asked(events))["id"])
            assert "result" in (await events.rest())[0]


async def test_the_example_of_the_documentation(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    page = (ROOT / "docs" / "vetting.md").read_text(encoding="utf-8")
    example = yaml.safe_load(re.findall(r"^```yaml gateway\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[0])
    text = re.findall(r"^```text\n(.*?)\n```", page, re.MULTILINE | re.DOTALL)[0]
    beta.pages = [[tool("look", annotations={"destructiveHint": False}), tool("transfer"), tool("close_account")]]
    async with start({"files": alpha.url, "bank": beta.url}, vetting=example["vetting"]) as gateway:
        session = await gateway.initialize(capabilities=FORMS)
        path = {"path": "/home/me/\u202etxt.exe", "force": True}
        async with calling(gateway, session, "files__delete_file", arguments=path) as events:
            question = await asked(events)
            assert question["params"]["message"] == text
            await consumed(gateway, session, question["id"])
            assert "result" in (await events.rest())[0]
        assert (await gateway.call(session, "files__delete_file", {"path": "/other"})).result
        assert (await gateway.call(session, "bank__look", {"amount": 1000})).result
        for name, amount in (("transfer", 1000), ("transfer", 1), ("close_account", 1)):
            # What is not asked about for its amount is so for what the server says.
            async with calling(gateway, session, f"bank__{name}", arguments={"amount": amount}) as events:
                await consumed(gateway, session, (await asked(events))["id"], result={"action": "decline"})
                await refused(events, "consent_declined")


# -- Clients and workers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18", "2025-11-25"])
async def test_the_python_sdk_asks_its_user(
    gateway: TestGateway, alpha: ScriptedServer, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp.client.session.LATEST_HANDSHAKE_VERSION", version)
    questions: list[str] = []
    action = "decline"

    async def answer(context: Any, params: ElicitRequestParams) -> ElicitResult:
        questions.append(params.message)
        return ElicitResult(action="accept" if action == "accept" else "decline")

    async with Client(gateway.url, mode="legacy", elicitation_callback=answer) as client:
        if version == "2025-03-26":
            with pytest.raises(MCPError, match="did not declare elicitation"):
                await client.call_tool("alpha__delete", {})
            return
        with pytest.raises(MCPError, match="did not run: the user declined"):
            await client.call_tool("alpha__delete", {"path": "/x"})
        action = "accept"
        assert text(await client.call_tool("alpha__delete", {"path": "/y"}))
    assert [question.rpartition(": ")[2] for question in questions] == ['"/x"', '"/y"']
    [call] = alpha.calls("tools/call")
    assert call.message["params"]["arguments"] == {"path": "/y"}


async def test_several_workers(start: StartGateway, alpha: ScriptedServer) -> None:
    """Answers reach the worker that asked, whichever has the session."""
    async with start({"alpha": alpha.url}, vetting=[{}], workers=2) as gateway:
        for number in range(6):
            session = await gateway.initialize(capabilities=FORMS)
            async with calling(gateway, session, "alpha__delete", arguments={"n": number}) as events:
                await consumed(gateway, session, (await asked(events))["id"])
                assert "result" in (await events.rest())[0]
    assert [call.message["params"]["arguments"]["n"] for call in alpha.calls("tools/call")] == list(range(6))
