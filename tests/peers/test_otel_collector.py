"""Spans, metrics and log records through a real OpenTelemetry Collector (tests/peers/otelcol, built with Go)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.gateway import gateway
from tests.support.golang import built_here
from tests.support.processes import ROOT, free_port, http_server
from tests.support.scripted import ScriptedServer
from tests.support.tls import Authority
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(1200)  # it may have to be built

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@asynccontextmanager
async def collector(folder: Path, **options: Any) -> AsyncIterator[tuple[int, int, Path]]:
    """A running one: its ports for gRPC and HTTP, and the file to which it writes what came, a line of JSON each.

    Args:
        folder: for files.
        options: of its receivers.
    """
    grpc, http, out = free_port(), free_port(), folder / "out.jsonl"
    ports = {"grpc": grpc, "http": http}
    protocols = {name: {"endpoint": f"127.0.0.1:{port}", **options} for name, port in ports.items()}
    pipelines = {signal: {"receivers": ["otlp"], "exporters": ["file"]} for signal in ("traces", "metrics", "logs")}
    file = folder / "otelcol.yaml"
    file.write_text(yaml.safe_dump({
        "receivers": {"otlp": {"protocols": protocols}},
        "exporters": {"file": {"path": str(out), "flush_interval": "100ms"}},
        "service": {"pipelines": pipelines, "telemetry": {"metrics": {"level": "none"}}},
    }))  # fmt: skip
    program = built_here(ROOT / "tests" / "peers" / "otelcol")
    async with http_server([program, "--config", str(file)], grpc, log=folder / "otelcol.log"):
        yield grpc, http, out


def read(out: Path, signal: str, records: str) -> list[dict[str, Any]]:
    """What came of one signal; the last line may be half there."""
    lines = out.read_text().split("\n")[:-1] if out.exists() else []
    return [
        record | {"resource": attributes(resource["resource"])}
        for line in lines
        for resource in json.loads(line).get(f"resource{signal}", [])
        for scope in resource[f"scope{signal}"]
        for record in scope[records]
    ]


def attributes(owner: dict[str, Any]) -> dict[str, Any]:
    """Values with the name of their type."""
    return {pair["key"]: pair["value"] for pair in owner.get("attributes", [])}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_all_signals(protocol: str, tmp_path: Path) -> None:
    async with ScriptedServer("alpha") as alpha, collector(tmp_path) as (grpc, http, out):
        otlp = {"endpoint": f"http://127.0.0.1:{grpc if protocol == 'grpc' else http}", "protocol": protocol}
        telemetry = {"traces": {**otlp, "service_name": "tools"}, "metrics": {"otlp": otlp}, "logs": {"otlp": otlp}}
        async with gateway(tmp_path, {"alpha": alpha.url}, telemetry=telemetry, audit={"otlp": otlp}) as client:
            session = await client.initialize()
            await client.rpc("tools/list", mcp_session_id=session)
            meta = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "v=1"}
            call = {"name": "alpha__echo", "arguments": {}, "_meta": meta}
            await client.rpc("tools/call", call, id="seven", mcp_session_id=session)
            await client.call(session, "alpha__none", id="eight")
            spans = await eventually(
                lambda: [span for span in read(out, "Spans", "spans") if span["traceId"] == TRACE],
                "both spans of the call",
                until=lambda found: len(found) == 2,
            )
            logs = await eventually(
                lambda: read(out, "Logs", "logRecords"), "its log records", until=lambda found: len(found) >= 8
            )
            await eventually(lambda: counted(out), "all requests are counted", until=lambda number: number == 4)
    _check_spans(spans)
    calls = [record for record in logs if attributes(record).get("jsonrpc.request.id") == {"stringValue": "seven"}]
    assert sorted(record["eventName"] for record in calls) == ["mcp.audit", "mcp.request"]
    assert {record["traceId"] for record in calls} == {TRACE}
    assert {span["resource"]["service.name"]["stringValue"] for span in [*spans, *logs]} == {"tools"}
    [*_, duration] = metric(out, "mcp.server.operation.duration")
    assert duration["unit"] == "s"
    assert {point["explicitBounds"][0] for point in duration["histogram"]["dataPoints"]} == {0.01}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_one_that_wants_a_certificate(protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path / "authority")
    tls = {
        "cert_file": str(authority.certificate("server")),
        "key_file": str(authority.key("server")),
        "client_ca_file": str(authority.ca),
    }
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(authority.ca))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", str(authority.certificate("client")))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", str(authority.key("client")))
    async with ScriptedServer("alpha") as alpha, collector(tmp_path, tls=tls) as (grpc, http, out):
        otlp = {"endpoint": f"https://127.0.0.1:{grpc if protocol == 'grpc' else http}", "protocol": protocol}
        async with gateway(tmp_path, {"alpha": alpha.url}, telemetry={"traces": otlp}) as client:
            await client.initialize()
            await eventually(lambda: read(out, "Spans", "spans"), "its spans", until=bool)


def metric(out: Path, name: str) -> list[dict[str, Any]]:
    return [found for found in read(out, "Metrics", "metrics") if found["name"] == name]


def counted(out: Path) -> int:
    """Requests, as the collector was told last."""
    [*_, last] = [0, *(
        sum(int(point.get("asInt", 0) or point.get("asDouble", 0)) for point in each["sum"]["dataPoints"])
        for each in metric(out, "mcp.gateway.requests")
    )]  # fmt: skip
    return last


def _check_spans(spans: list[dict[str, Any]]) -> None:
    client, server = sorted(spans, key=lambda span: span["kind"], reverse=True)
    assert (server["name"], server["kind"], server["parentSpanId"]) == ("tools/call echo", 2, PARENT)
    assert (client["kind"], client["parentSpanId"], client["traceState"]) == (3, server["spanId"], "v=1")
    found = attributes(server)
    assert found["jsonrpc.request.id"] == {"stringValue": "seven"}
    assert found["gen_ai.tool.name"] == {"stringValue": "echo"}
    assert set(found["client.port"]) == {"intValue"}
