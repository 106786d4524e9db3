"""Spans, metrics and the audit of what goes through a real Envoy. (Written, and not run yet.)"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import StartGateway
from tests.support.otlp_receiver import over_grpc, over_http, plain
from tests.support.processes import free_port
from tests.support.scripted import ScriptedServer
from tests.support.waiting import eventually

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
METHOD = "tools/call"


def lines(file: Path) -> Sequence[dict[str, Any]]:
    """Of the audit, rotated ones first."""
    files = sorted(file.parent.glob(f"{file.name}*"), key=lambda each: each.name, reverse=True)
    return [json.loads(line) for each in files for line in each.read_bytes().splitlines()]


async def test_a_call_has_both_spans(start_own: StartGateway, alpha: ScriptedServer) -> None:
    async with over_grpc() as received:
        traces = {"endpoint": received.url, "protocol": "grpc"}
        async with start_own({"alpha": alpha.url}, telemetry={"traces": traces}) as gateway:
            session = await gateway.initialize()
            call = {"name": "alpha__echo", "arguments": {}}
            header = {"traceparent": f"00-{TRACE}-{PARENT}-01", "mcp-session-id": session}
            await gateway.rpc(METHOD, call, id="seven", **header)
            found = await eventually(
                lambda: [span for span in received.spans if span.trace_id.hex() == TRACE],
                "its spans",
                until=lambda s: len(s) == 2,
            )
    server, client = sorted(found, key=lambda span: span.kind)
    assert (server.name, server.kind, server.parent_span_id.hex()) == ("tools/call echo", Span.SPAN_KIND_SERVER, PARENT)
    assert (client.kind, client.parent_span_id) == (Span.SPAN_KIND_CLIENT, server.span_id)
    attributes = plain(server.attributes)
    assert attributes["jsonrpc.request.id"] == "seven"
    assert attributes["mcp.server"] == "alpha"
    assert (
        server.start_time_unix_nano
        <= client.start_time_unix_nano
        <= client.end_time_unix_nano
        <= server.end_time_unix_nano
    )


async def test_a_parse_error_has_a_span(start_own: StartGateway, alpha: ScriptedServer) -> None:
    async with over_http() as received:
        async with start_own({"alpha": alpha.url}, telemetry={"traces": {"endpoint": received.url}}) as gateway:
            await gateway.send(b"{")
            [span] = await eventually(lambda: received.spans, "its span")
    assert plain(span.attributes)["error.type"] == "-32700"


async def test_metrics_of_ours_and_of_envoy(start_own: StartGateway, alpha: ScriptedServer) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with start_own({"alpha": alpha.url}, telemetry={"metrics": {"address": address}}) as gateway:
        session = await gateway.initialize()
        for number in range(3):
            await gateway.call(session, "alpha__echo", id=number)

        async def calls() -> float:
            async with aiohttp.ClientSession() as http, http.get(f"http://{address}/metrics") as response:
                families = [*text_string_to_metric_families(await response.text())]
            assert any(family.name.startswith("envoy_http_downstream_rq") for family in families)
            return sum(
                sample.value
                for family in families
                for sample in family.samples
                if sample.name == "mcp_gateway_requests_total" and sample.labels["mcp_method_name"] == METHOD
            )

        await eventually(calls, "three calls are counted", until=lambda value: value == 3)


async def test_lines_are_requests(start_own: StartGateway, alpha: ScriptedServer, tmp_path: Path) -> None:
    """Over rotations, and messages of batches one by one."""
    file = tmp_path / "audit.jsonl"
    audit = {"file": str(file), "rotate_bytes": "4KiB", "keep": 100}
    async with start_own({"alpha": alpha.url}, audit=audit) as gateway:
        session = await gateway.initialize()
        ids = [str(number) for number in range(50)]
        await asyncio.gather(*(gateway.call(session, "alpha__echo", id=id) for id in ids))
        found = await eventually(
            lambda: [line for line in lines(file) if line["method"] == METHOD],
            "a line for each",
            until=lambda f: len(f) >= 50,
        )
    assert sorted(line["jsonrpc.request.id"] for line in found) == sorted(ids)
    assert {line["verdict"] for line in found} == {"allow"}
    assert len([*tmp_path.glob("audit.jsonl*")]) > 1


async def test_a_denial_by_envoy(start_own: StartGateway, alpha: ScriptedServer, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    limits = [{"by": ["session"], "requests": 1, "per": "hour"}]
    async with start_own({"alpha": alpha.url}, audit={"file": str(file)}, rate_limits=limits) as gateway:
        session = await gateway.initialize()
        for number in range(2):
            await gateway.call(session, "alpha__echo", id=number)
        [line] = await eventually(lambda: [line for line in lines(file) if line["verdict"] == "deny"], "its line")
    assert (line["rule"], line["server"], line["error.type"]) == ("rate_limit", "alpha", "-32603")


async def test_no_call_is_harmed_without_a_collector(
    start_own: StartGateway, alpha: ScriptedServer, tmp_path: Path
) -> None:
    file = tmp_path / "audit.jsonl"
    async with start_own({"alpha": alpha.url}, audit={"file": str(file)}) as gateway:
        session = await gateway.initialize()
        first = gateway.local.pids["collector"]
        os.kill(first, signal.SIGKILL)
        for number in range(20):
            assert (await gateway.call(session, "alpha__echo", id=number)).result
        await eventually(
            lambda: gateway.local.pids.get("collector"), "another collector", until=lambda pid: pid != first
        )

        async def is_audited() -> bool:
            await gateway.call(session, "alpha__echo", id="late")
            return any(line.get("jsonrpc.request.id") == "late" for line in lines(file))

        await eventually(is_audited, "lines come again")


async def test_nothing_is_started_where_nothing_is_on(start_own: StartGateway, alpha: ScriptedServer) -> None:
    async with start_own({"alpha": alpha.url}) as gateway:
        assert "collector" not in gateway.local.pids
