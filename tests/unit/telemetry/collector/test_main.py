"""The collector as a whole, in this process: what Envoy would send goes in by gRPC, and comes out where it should."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import msgspec
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from prometheus_client.parser import text_string_to_metric_families

from mcp_extproc.telemetry import _pb as pb
from mcp_extproc.telemetry.audit_file import AuditFileError
from mcp_extproc.telemetry.collector import main
from mcp_extproc.telemetry.collector.main import Collector
from mcp_extproc.telemetry.collector.spec import AuditTo, CollectorSpec, Export
from mcp_extproc.telemetry.instruments import AUDIT_LOST
from mcp_extproc.telemetry.prometheus import exposition
from mcp_extproc.telemetry.totals import Family
from tests.support.otlp_receiver import Received, over_grpc, over_http, plain
from tests.support.processes import free_port
from tests.support.waiting import eventually
from tests.unit.telemetry.support import FACTS, ONWARD, OTHER, PARENT, SPAN, STARTED, TRACE, record

RESOURCE = {"service.name": "tools"}


@asynccontextmanager
async def collecting(folder: Path, **told: Any) -> AsyncIterator[Collector]:
    collector = Collector(CollectorSpec(listen=f"unix:{folder / 'als.sock'}", resource=RESOURCE, **told))
    await collector.start()
    try:
        yield collector
    finally:
        await collector.stop()


async def send(folder: Path, *entries: pb.HTTPAccessLogEntry) -> None:
    """As Envoy does, and wait until they were read."""
    message = pb.StreamAccessLogsMessage()
    message.http_logs.log_entry.extend(entries)
    async with grpc.aio.insecure_channel(f"unix:{folder / 'als.sock'}") as channel:
        await channel.stream_unary(pb.STREAM_PATH)(iter([message.SerializeToString()]))


def audited(path: Path) -> Sequence[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


async def test_the_audit(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with collecting(tmp_path, audit_file=AuditTo(str(path), 1 << 20, 1)):
        assert (tmp_path / "als.sock").stat().st_mode & 0o077 == 0
        await send(tmp_path, record(), record({**FACTS, "error_reason": "tool_error"}))
        await send(tmp_path, record(x_mcp_error="denied"))
        assert [line["verdict"] for line in audited(path)] == ["allow", "allow", "deny"]
    assert not (tmp_path / "als.sock").exists()


async def test_an_audit_that_can_not_be_written(tmp_path: Path) -> None:
    collector = Collector(
        CollectorSpec(listen="unix:/none", resource=RESOURCE, audit_file=AuditTo(str(tmp_path / "no" / "a"), 1, 1))
    )
    with pytest.raises(AuditFileError):
        await collector.start()


async def test_prometheus(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with collecting(tmp_path, metrics_address=address, audit_file=AuditTo(str(tmp_path / "a"), 1 << 20, 1)):
        await send(tmp_path, *[record(more={"is_listed": True})] * 3)
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}/metrics") as response:
            families = {family.name: family for family in text_string_to_metric_families(await response.text())}
    samples = {sample.name: sample for family in families.values() for sample in family.samples}
    assert samples["mcp_server_operation_duration_seconds_count"].value == 3
    assert samples["mcp_gateway_requests_total"].labels["gen_ai_tool_name"] == "add"
    assert samples["mcp_gateway_records_total"].value == 3
    assert samples["mcp_gateway_audit_written_total"].value == 3
    assert "mcp_gateway_spans_lost" not in families


async def test_no_site_reads_metrics_by_a_name_of_its_own(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with collecting(tmp_path, metrics_address=address), aiohttp.ClientSession() as session:
        for host, status in (("evil.example", 403), (address, 200), ("localhost:9464", 200)):
            async with session.get(f"http://{address}/metrics", headers={"host": host}) as response:
                assert response.status == status, host


async def test_another_path_says_where_metrics_are(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with collecting(tmp_path, metrics_address=address), aiohttp.ClientSession() as session:
        async with session.get(f"http://{address}/") as response:
            assert (response.status, await response.text()) == (404, "Metrics are at /metrics.\n")


@pytest.mark.parametrize(("receiver", "is_grpc"), [(over_http, False), (over_grpc, True)])
async def test_spans(tmp_path: Path, receiver: Any, is_grpc: bool) -> None:
    opened: AbstractAsyncContextManager[Received] = receiver()
    async with opened as received:
        url = received.url if is_grpc else f"{received.url}/v1/traces"
        async with collecting(tmp_path, traces=Export(url, is_grpc, {"x-key": "k"})):
            await send(tmp_path, record(), record({**FACTS, "error_reason": "tool_error"}))
        found = received.spans
        assert received.headers[0]["x-key"] == "k"
        [resource] = received.requests[0].resource_spans
    assert plain(resource.resource.attributes)["service.name"] == "tools"
    server, client, failed, _ = found
    assert (server.name, server.kind, client.kind) == ("tools/call add", Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
    assert (server.trace_id.hex(), server.span_id.hex(), server.parent_span_id.hex()) == (TRACE, SPAN, PARENT)
    assert (client.trace_id.hex(), client.span_id.hex(), client.parent_span_id.hex()) == (TRACE, ONWARD, SPAN)
    assert (server.start_time_unix_nano, server.end_time_unix_nano) == (STARTED, STARTED + 30_000_000)
    assert (server.trace_state, [link.trace_id.hex() for link in server.links]) == ("v=1", [OTHER])
    assert plain(server.attributes)["gen_ai.tool.name"] == "add"
    assert (server.status.code, failed.status.code) == (Status.STATUS_CODE_UNSET, Status.STATUS_CODE_ERROR)


async def test_which_setting_is_wrong_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The access log and the audit are the same signal, and may go to the same receiver."""
    async with over_http() as received:
        export = Export(f"{received.url}/no/such/path", is_grpc=False, headers={})
        async with collecting(tmp_path, traces=export, metrics=export, logs=export, audit=export):
            await send(tmp_path, record())
    told = [vars(one)["mcp_fields"] for one in caplog.records if one.getMessage() == "otlp_not_sent"]
    assert sorted((fields["setting"], fields["signal"]) for fields in told) == [
        ("audit.otlp", "logs"),
        ("telemetry.logs.otlp", "logs"),
        ("telemetry.metrics.otlp", "metrics"),
        ("telemetry.traces", "traces"),
    ]


async def test_log_records(tmp_path: Path) -> None:
    async with over_http() as received:
        export = Export(f"{received.url}/v1/logs", is_grpc=False, headers={})
        async with collecting(tmp_path, audit=export, logs=export):
            get = record({}, {})
            get.request.request_method = 1
            await send(tmp_path, record(), get)
    assert sorted(one.event_name for one in received.logs) == ["mcp.audit", "mcp.request", "mcp.request"]
    [audit] = [one for one in received.logs if one.event_name == "mcp.audit"]
    assert plain(audit.attributes)["verdict"] == "allow"
    assert (audit.trace_id.hex(), audit.span_id.hex(), audit.time_unix_nano) == (TRACE, SPAN, STARTED)


async def test_a_receiver_that_is_gone_is_counted(tmp_path: Path) -> None:
    async with over_http() as received:
        received.status = 400
        export = Export(f"{received.url}/v1/traces", is_grpc=False, headers={})
        async with collecting(tmp_path, traces=export) as collector:
            await send(tmp_path, record())
            sender = collector._spans
            assert sender is not None
            await eventually(lambda: sender.lost == 2, "the spans are counted as lost")
            received.status = 200
            await send(tmp_path, record())
            await eventually(lambda: sender.sent == 2, "spans arrive again")


async def test_an_audit_that_nobody_takes_is_counted(tmp_path: Path) -> None:
    async with over_http() as received:
        received.status = 400
        export = Export(f"{received.url}/v1/logs", is_grpc=False, headers={})
        async with collecting(tmp_path, audit=export) as collector:
            await send(tmp_path, record(), record())
            await eventually(lambda: dict(collector._counts()).get(AUDIT_LOST) == 2, "its lines are counted as lost")


async def test_bytes_that_are_no_records_harm_nothing(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with collecting(tmp_path, audit_file=AuditTo(str(path), 1 << 20, 1)):
        async with grpc.aio.insecure_channel(f"unix:{tmp_path / 'als.sock'}") as channel:
            await channel.stream_unary(pb.STREAM_PATH)(iter([b"\xff", b""]))
        await send(tmp_path, record())
    assert len(audited(path)) == 1


def test_what_it_is_told_survives_json() -> None:
    spec = CollectorSpec(
        listen="unix:/a", resource=RESOURCE, traces=Export("http://c", True, {"a": "b"}), audit_file=AuditTo("/b", 1, 2)
    )
    assert msgspec.json.decode(msgspec.json.encode(spec), type=CollectorSpec) == spec


@pytest.mark.parametrize(("seconds", "count"), [(60.0, 1), (0.0, 5)])
async def test_attack_metrics_are_not_made_for_each_who_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, count: int
) -> None:
    """They may be many, and the audit is written by the same process."""
    made = []

    def counted(families: Sequence[Family]) -> str:
        made.append(families)
        return exposition(families)

    monkeypatch.setattr(main, "exposition", counted)
    monkeypatch.setattr(main, "_MADE_SECONDS", seconds)
    address = f"127.0.0.1:{free_port()}"
    async with collecting(tmp_path, metrics_address=address), aiohttp.ClientSession() as http:
        for _ in range(5):
            async with http.get(f"http://{address}/metrics") as response:
                assert response.status == 200
    assert len(made) == count


async def test_attack_an_address_that_somebody_else_has() -> None:
    """They were there first: it is said in a line, and what they get are no records."""
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        address = f"127.0.0.1:{theirs.getsockname()[1]}"
        collector = Collector(CollectorSpec(listen=address, resource=RESOURCE))
        with pytest.raises(OSError, match=f"{address} is in use, or may not be used"):
            await collector.start()


async def test_two_gateways_do_not_share_an_address() -> None:
    address = f"127.0.0.1:{free_port()}"
    first, second = (Collector(CollectorSpec(listen=address, resource=RESOURCE)) for _ in range(2))
    await first.start()
    with pytest.raises(OSError, match="is in use"):
        await second.start()
    await first.stop()
