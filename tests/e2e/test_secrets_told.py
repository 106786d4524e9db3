"""Nothing that is secret is in what others are told of requests: spans, metrics, log records, the audit, logs."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.support.gateway import TestClient
from tests.support.otlp_receiver import over_grpc
from tests.support.processes import free_port
from tests.support.run_command import announced, running, write
from tests.support.scripted import ScriptedServer, answer
from tests.support.waiting import eventually

SECRETS: Mapping[str, str] = {
    name: f"planted-in-here-{number:03d}"
    for number, name in enumerate((
        "argument", "argument's member", "result", "error's data", "API key", "wrong API key", "header", "cookie",
        "query", "server's query", "server's header", "exporter's header", "_meta", "baggage", "session secret",
    ))
}  # fmt: skip
"""By where each is."""


async def test_nothing_that_is_secret_is_told(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with AsyncExitStack() as stack:
        received = await stack.enter_async_context(over_grpc())
        alpha = await stack.enter_async_context(ScriptedServer("alpha"))
        alpha.on["tools/call"] = _answer
        file = write(tmp_path, _config(tmp_path, alpha, received.url, address), "gateway.yaml")
        process = await stack.enter_async_context(running(file, "--port", "0", "--json"))
        url = (await announced(process))["url"]
        http = await stack.enter_async_context(aiohttp.ClientSession())
        requests = await _use(TestClient(url, http))
        audit = tmp_path / "audit.jsonl"
        await eventually(lambda: len(audit.read_bytes().splitlines()), "all lines", until=lambda n: n >= requests)
        async with http.get(f"http://{address}/metrics") as response:
            metrics = await response.read()
        await eventually(lambda: len(received.logs), "all log records", until=lambda n: n >= 2 * requests)
        await eventually(lambda: received.spans, "spans")
        await eventually(lambda: received.metrics, "metrics")
        process.send_signal(signal.SIGINT)
        said = b"".join(await process.communicate())
    told = {
        "OTLP": b"".join(each.SerializeToString() for each in received.requests),
        "metrics": metrics,
        "what the processes said": said,
        **{name: (tmp_path / name).read_bytes() for name in ("audit.jsonl", "access.log")},
    }  # fmt: skip
    assert b"collecting" in said
    found = {
        (where, what) for where, text in told.items() for what, secret in SECRETS.items() if secret.encode() in text
    }
    assert found == set()
    # What may be told is: so it is looked for in what was really told.
    for where in ("OTLP", "metrics", "audit.jsonl", "access.log"):
        assert b"echo" in told[where], where


def _config(folder: Path, alpha: ScriptedServer, receiver: str, address: str) -> dict[str, Any]:
    (folder / "keys").write_text(json.dumps({"someone": SECRETS["API key"]}))
    otlp = {"endpoint": receiver, "protocol": "grpc", "headers": {"x-key": SECRETS["exporter's header"]}}
    query, header = SECRETS["server's query"], SECRETS["server's header"]
    return {
        "servers": {"alpha": {
            "url": f"{alpha.url}?key={query}", "headers": {"x-key": header},
        }},
        "session": {"secret": SECRETS["session secret"] + "x" * 32},
        "authentication": {"api_keys": {"file": str(folder / "keys")}},
        "telemetry": {
            "answers": "all", "traces": otlp, "logs": {"otlp": otlp}, "metrics": {"address": address, "otlp": otlp},
        },
        "audit": {"file": "audit.jsonl", "arguments": "redacted", "otlp": otlp},
        "log": {"access": str(folder / "access.log"), "level": "debug"},
    }  # fmt: skip


async def _answer(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
    if message["params"]["arguments"].get("fails"):
        return answer(message, error={"code": -32050, "message": "no", "data": SECRETS["error's data"]})
    return answer(message, result={"content": [{"type": "text", "text": SECRETS["result"]}], "isError": True})


async def _use(client: TestClient) -> int:
    """Requests of all kinds that have a line, and how many they were."""
    key = {"x_api_key": SECRETS["API key"]}
    session = await client.initialize(**key)
    headers = {
        **key, "mcp_session_id": session, "x_own": SECRETS["header"], "cookie": f"a={SECRETS['cookie']}",
        "baggage": f"a={SECRETS['baggage']}",
    }  # fmt: skip
    await client.rpc("tools/list", **headers)
    meta = {"progressToken": "p", "own": SECRETS["_meta"]}
    arguments = {"text": SECRETS["argument"], "in": [{"deep": SECRETS["argument's member"]}]}
    call = {"name": "alpha__echo", "arguments": arguments, "_meta": meta}
    for more in ({}, {"fails": True}):
        await client.rpc("tools/call", {**call, "arguments": {**arguments, **more}}, **headers)
    await client.rpc("tools/call", {**call, "name": "alpha__none"}, **headers)
    await client.send(f'{{"text": "{SECRETS["argument"]}"'.encode(), **headers)
    await client.rpc("tools/list", **{**headers, "x_api_key": SECRETS["wrong API key"]})
    asked = TestClient(f"{client.url}?key={SECRETS['query']}", client.http)
    await asked.rpc("tools/call", call, **headers)
    return 8
