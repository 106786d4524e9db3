"""Spans, metrics and the audit of what goes through a real Envoy."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import StartGateway
from tests.e2e.test_attach import shop
from tests.support.gateway import TestClient
from tests.support.otlp_receiver import Received, over_grpc, over_http, plain
from tests.support.processes import ROOT, free_port
from tests.support.run_command import RUN, piped, write
from tests.support.scripted import ScriptedServer, answer, tool
from tests.support.streaming import calling, listen, reply
from tests.support.waiting import PATIENCE, eventually

TRACE, PARENT, LINKED = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"
REPAIRED = "4bf92f3577b34da6a3ce929d0e0e4736"
METHOD = "tools/call"


def lines(file: Path) -> Sequence[dict[str, Any]]:
    """Of the audit, rotated ones first."""
    files = sorted(file.parent.glob(f"{file.name}*"), key=lambda each: each.name, reverse=True)
    return [json.loads(line) for each in files for line in each.read_bytes().splitlines()]


async def families(address: str) -> list[Metric]:
    """What Prometheus reads there."""
    async with aiohttp.ClientSession() as http, http.get(f"http://{address}/metrics") as response:
        return [*text_string_to_metric_families(await response.text())]


def values(found: Sequence[Metric], name: str, label: str) -> Mapping[str, float]:
    """Of one metric, by the values of one label."""
    samples = [sample for family in found for sample in family.samples if sample.name == name]
    totals: dict[str, float] = {}
    for sample in samples:
        text = sample.labels.get(label, "")
        totals[text] = totals.get(text, 0) + sample.value
    return totals


async def raw(port: int, *lines: bytes) -> bytes:
    """The first line of the answer to a request whose head has these lines."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\r\n".join((*lines, b"host: a", b"content-length: 0", b"connection: close", b"", b"")))
    answer = await reader.readline()
    writer.close()
    return answer


@pytest.mark.parametrize("control", [b"\x1d", b"\x1e", b"\x1f", b"\x0b", b"\n \x1f", b"\r"])
async def test_no_header_ends_a_field_of_a_record(
    start_own: StartGateway, alpha: ScriptedServer, tmp_path: Path, control: bytes
) -> None:
    """Envoy refuses what separates the fields of a record in a method, a path or a header, and each request has its record."""
    audit, address = tmp_path / "audit.jsonl", f"127.0.0.1:{free_port()}"
    telemetry = {"metrics": {"address": address}, "traces": {"endpoint": "http://127.0.0.1:1"}}
    bad = b"a" + control + b"[1]" + control + b"b"
    async with start_own({"alpha": alpha.url}, telemetry=telemetry, audit={"file": str(audit)}) as gateway:
        port = gateway.local.port
        heads: list[tuple[bytes, ...]] = [
            (b"POST /mcp HTTP/1.1", name + b": " + bad) for name in (b"x-request-id", b"traceparent", b"x-other")
        ]
        heads += [(b"POST /mcp" + bad + b" HTTP/1.1",), (bad + b" /mcp HTTP/1.1",)]
        for head in heads:
            assert b" 200 " not in await raw(port, *head)
        session = await gateway.initialize()
        await gateway.call(session, "alpha__a\x1f\x1d\x1eb")
        said = await eventually(
            lambda: lines(audit), "its line", until=lambda found: any(line.get("name") for line in found)
        )
        assert [line["name"] for line in said if "name" in line] == ["alpha__a\x1f\x1d\x1eb"]
        found = await families(address)
    assert values(found, "mcp_gateway_records_lost_total", "") == {"": 0}, "each line was a record"


async def spans_of(received: Received, trace: str, count: int) -> list[Span]:
    """The spans of a trace, those towards clients first."""
    found = await eventually(
        lambda: [span for span in received.spans if span.trace_id.hex() == trace],
        "its spans",
        until=lambda spans: len(spans) == count,
    )
    return sorted(found, key=lambda span: span.kind)


async def test_a_session_is_seen_from_all_sides(start_own: StartGateway, alpha: ScriptedServer, tmp_path: Path) -> None:
    """One whose client lists tools, calls one, makes up names, tries what a rule hides from it, and leaves."""
    alpha.pages = [[tool("echo"), tool("secret")]]
    rules = [{"name": "no-secrets", "action": "deny", "tools": ["secret"]}, {"name": "all", "action": "allow"}]
    audit = tmp_path / "audit.jsonl"
    address = f"127.0.0.1:{free_port()}"
    async with over_grpc() as received:
        telemetry = {"traces": {"endpoint": received.url, "protocol": "grpc"}, "metrics": {"address": address}}
        async with start_own(
            {"alpha": alpha.url},
            telemetry=telemetry,
            audit={"file": str(audit), "arguments": "hash"},
            authorization={"rules": rules},
        ) as gateway:
            session = await gateway.initialize()
            await gateway.rpc("tools/list", mcp_session_id=session)
            meta = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "v=1", "baggage": "a=b", "kept": [1.50]}
            call = {"name": "alpha__echo", "arguments": {"x": 1}, "_meta": meta}
            header = {"traceparent": f"00-{'1' * 32}-{LINKED}-01", "mcp-session-id": session}
            await gateway.rpc(METHOD, call, id="seven", **header)
            for name in ("made", "up", "secret"):
                await gateway.call(session, f"alpha__{name}")
            await gateway.send(None, method="DELETE", mcp_session_id=session)
            server, client = await spans_of(received, TRACE, 2)
            said = await eventually(lambda: lines(audit), "its lines", until=lambda found: len(found) >= 6)
            found = await eventually(
                lambda: families(address),
                "all is counted, the end of the session too",
                # In this order by the pipe; a thread of Envoy's that sends messages may be later than another one.
                until=lambda found: (
                    values(found, "mcp_server_session_duration_seconds_count", "network_transport")
                    and sum(values(found, "mcp_gateway_requests_total", "mcp_method_name").values()) >= 6
                ),
            )
    _check_spans(server, client)
    _check_what_the_server_got(alpha, client)
    by_name = {line.get("name") or line["method"]: line for line in said}
    assert [by_name[name]["verdict"] for name in (METHOD, "alpha__made", "alpha__secret")] == ["allow", "error", "deny"]
    assert [by_name[name].get("rule") for name in (METHOD, "alpha__made", "alpha__secret")] == [
        "all",
        None,
        "no-secrets",
    ]
    assert by_name[METHOD]["arguments"].startswith("hmac-sha256:")
    assert values(found, "mcp_gateway_requests_total", "gen_ai_tool_name") == {"": 5, "echo": 1}
    assert values(found, "mcp_gateway_denials_total", "mcp_rule") == {"no-secrets": 1}
    assert any(family.name.startswith("envoy_http_downstream_rq") for family in found)


def _check_spans(server: Span, client: Span) -> None:
    assert (server.name, server.kind, server.parent_span_id.hex()) == ("tools/call echo", Span.SPAN_KIND_SERVER, PARENT)
    assert [link.span_id.hex() for link in server.links] == [LINKED]
    assert (client.kind, client.parent_span_id) == (Span.SPAN_KIND_CLIENT, server.span_id)
    attributes = plain(server.attributes)
    assert (attributes["jsonrpc.request.id"], attributes["mcp.server"]) == ("seven", "alpha")
    assert server.start_time_unix_nano <= client.start_time_unix_nano
    assert client.start_time_unix_nano <= client.end_time_unix_nano <= server.end_time_unix_nano


def _check_what_the_server_got(alpha: ScriptedServer, client: Span) -> None:
    """The span towards it is its parent, in header and ``_meta``; all else in there is as it was."""
    [got] = alpha.calls(METHOD)
    parent = f"00-{TRACE}-{client.span_id.hex()}-01"
    assert (got.headers["traceparent"], got.headers["tracestate"], got.headers["baggage"]) == (parent, "v=1", "a=b")
    meta = got.message["params"]["_meta"]
    assert meta == {"traceparent": parent, "tracestate": "v=1", "baggage": "a=b", "kept": [1.5]}
    [listed] = alpha.calls("tools/list")
    assert listed.headers["traceparent"][-3:] == "-01", "what is asked for the sake of a request belongs to its trace"


@pytest.mark.parametrize(("receiver", "protocol"), [(over_grpc, "grpc"), (over_http, "http/protobuf")])
async def test_everything_by_otlp(
    start_own: StartGateway, alpha: ScriptedServer, receiver: Any, protocol: str, tmp_path: Path
) -> None:
    """The access log as lines, too. What was not sent before is, at the latest, when the gateway ends."""
    opened: AbstractAsyncContextManager[Received] = receiver()
    async with opened as received:
        to = {"endpoint": received.url, "protocol": protocol, "headers": {"x-key": "k"}}
        telemetry = {"traces": to, "metrics": {"otlp": to}, "logs": {"otlp": to}}
        async with start_own({"alpha": alpha.url}, telemetry=telemetry, audit={"otlp": to}) as gateway:
            session = await gateway.initialize()
            await gateway.rpc(
                METHOD, {"name": "alpha__echo", "arguments": {"x": 1}}, id="seven", mcp_session_id=session
            )
            await gateway.logged(**{"mcp.method.name": METHOD})
    logs = {(log.event_name, plain(log.attributes).get("jsonrpc.request.id")): log for log in received.logs}
    audit, access = logs["mcp.audit", "seven"], logs["mcp.request", "seven"]
    said = plain(audit.attributes)
    assert (said["verdict"], said["method"], said["tool"], said["server"]) == ("allow", METHOD, "echo", "alpha")
    assert plain(access.attributes)["http.response.status_code"] == 200
    [span] = [span for span in received.spans if span.span_id == audit.span_id]
    assert (span.name, span.trace_id) == ("tools/call echo", access.trace_id)
    durations = received.metrics["mcp.server.operation.duration"]
    assert sum(point.count for point in durations.histogram.data_points) == 2
    [legs] = received.metrics["mcp.gateway.legs"].sum.data_points
    assert (plain(legs.attributes), legs.as_double or legs.as_int) == ({"mcp.server": "alpha", "mcp.leg": "open"}, 1)
    assert received.metrics["mcp.gateway.legs"].sum.is_monotonic
    assert {headers.get("x-key") for headers in received.headers} == {"k"}


@pytest.mark.parametrize(
    ("configured", "written"),
    [({"access": ""}, False), ({}, True)],
    ids=["by OTLP alone", "on standard output, too"],
)
async def test_the_access_log_needs_no_file(
    alpha: ScriptedServer, tmp_path: Path, configured: dict[str, Any], written: bool
) -> None:
    """As `run` has it: on its standard output, or nowhere but in the collector."""
    async with over_http() as received:
        logs = {"logs": {"otlp": {"endpoint": received.url}}}
        servers, port = {"alpha": {"url": alpha.url}}, free_port()
        file = write(tmp_path, {"servers": servers, "log": configured, "telemetry": logs}, "gateway.yaml")
        command = [*RUN, str(file), "--port", str(port), "--workers", "1"]
        async with piped(command, os.environ | {"PYTHONPATH": str(ROOT)}, tmp_path) as process:
            assert process.stdout is not None
            async with asyncio.timeout(PATIENCE):
                while b"Ctrl-C" not in (line := await process.stdout.readline()):
                    assert line, await process.stderr.read() if process.stderr else ""
            async with aiohttp.ClientSession() as http:
                client = TestClient(f"http://127.0.0.1:{port}/mcp", http)
                await client.call(await client.initialize(), "alpha__echo", {"x": 1}, id="seven")
            # Envoy writes lines before it passes records on.
            record = await eventually(
                lambda: [log for log in received.logs if plain(log.attributes).get("jsonrpc.request.id") == "seven"],
                "a record of the call",
            )
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(PATIENCE):
                out, err = await process.communicate()
    assert [log.event_name for log in record] == ["mcp.request"]
    assert plain(record[0].attributes)["http.response.status_code"] == 200
    lines = [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]
    assert [line["jsonrpc.request.id"] for line in lines if line.get("mcp.method.name") == METHOD] == (
        ['"seven"'] if written else []
    )
    assert b"mcp.method.name" not in (err if written else out + err)
    assert list(tmp_path.iterdir()) == [file], "no other file"


async def test_what_is_not_sampled_is_left_alone(start_own: StartGateway, alpha: ScriptedServer) -> None:
    """But for what the caller has decided to keep: the denial of a rate limit, and a parse error without a session."""
    limits = [{"by": ["session"], "requests": 1, "per": "hour"}]
    async with over_http() as received:
        traces = {"endpoint": received.url, "sample": 0}
        async with start_own({"alpha": alpha.url}, telemetry={"traces": traces}, rate_limits=limits) as gateway:
            session = await gateway.initialize()
            await gateway.call(session, "alpha__echo", {"x": 1})
            [got] = alpha.calls(METHOD)
            assert "_meta" not in got.message["params"]
            assert "traceparent" not in got.headers
            meta = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            call = {"name": "alpha__echo", "arguments": {}, "_meta": meta}
            await gateway.rpc(METHOD, call, mcp_session_id=session)
            await gateway.send(b"{", traceparent=f"00-{TRACE}-{LINKED}-01")
            found = await spans_of(received, TRACE, 2)
    by_parent = {span.parent_span_id.hex(): plain(span.attributes) for span in found}
    assert by_parent[PARENT]["mcp.method.name"] == METHOD
    assert (by_parent[PARENT]["error.type"], by_parent[LINKED]["error.type"]) == ("-32603", "-32700")
    assert len(received.spans) == 2


async def test_lines_are_requests(start_own: StartGateway, alpha: ScriptedServer, tmp_path: Path) -> None:
    """Over rotations. Metrics have names that the server lists, and others as one; and what each answer says."""

    async def fails(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        is_listed = message["params"]["name"] == "echo"
        return answer(message, result={"content": []} if is_listed else {"content": [], "isError": True})

    alpha.on[METHOD] = fails
    file = tmp_path / "audit.jsonl"
    audit = {"file": str(file), "rotate_bytes": "4KiB", "keep": 100}
    address = f"127.0.0.1:{free_port()}"
    telemetry = {"metrics": {"address": address}, "answers": "all"}
    async with start_own({"alpha": alpha.url}, audit=audit, telemetry=telemetry) as gateway:
        session = await gateway.initialize()
        await gateway.rpc("tools/list", mcp_session_id=session)
        ids = [str(number) for number in range(50)]
        names = ["alpha__echo" if number % 2 else f"alpha__made_up_{number}" for number in range(50)]
        await asyncio.gather(*(gateway.call(session, name, id=id) for name, id in zip(names, ids, strict=True)))
        found = await eventually(
            lambda: [line for line in lines(file) if line["method"] == METHOD],
            "a line for each",
            until=lambda found: len(found) >= 50,
        )
        counted = values(await families(address), "mcp_gateway_requests_total", "gen_ai_tool_name")
    assert counted == {"": 2, "echo": 25, "other": 25}
    assert len([line for line in found if line.get("error.type") == "tool_error"]) == 25
    assert sorted(line["jsonrpc.request.id"] for line in found) == sorted(ids)
    assert {line["verdict"] for line in found} == {"allow"}
    sizes = [each.stat().st_size for each in tmp_path.glob("audit.jsonl*")]
    assert len(sizes) > 1
    assert max(sizes) <= 4096


async def test_attack_no_answer_of_a_server_hides_its_call(
    start_own: StartGateway, alpha: ScriptedServer, tmp_path: Path
) -> None:
    """Envoy writes a number with an exponent where that is shorter."""
    codes = [1_000_000, 25_000_000, -(10**14), 10**15, 1.5, 1e300, -0.0, True, "x", "a\x1f\x1d", None, {}]
    told = iter(codes)

    async def fails(_: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return answer(message, error={"code": next(told), "message": "a\x1f\n\x1d"})

    alpha.on[METHOD] = fails
    file, address = tmp_path / "audit.jsonl", f"127.0.0.1:{free_port()}"
    telemetry = {"metrics": {"address": address}, "answers": "all"}
    async with start_own({"alpha": alpha.url}, audit={"file": str(file)}, telemetry=telemetry) as gateway:
        session = await gateway.initialize()
        for _ in codes:
            await gateway.call(session, "alpha__echo")
        found = await eventually(
            lambda: [line.get("error.type") for line in lines(file) if line["method"] == METHOD],
            "a line for each",
            until=lambda found: len(found) == len(codes),
        )
        assert found[:4] == ["1000000", "25000000", str(-(10**14)), "server_error"]
        assert values(await families(address), "mcp_gateway_records_lost_total", "") == {"": 0}


async def test_no_call_is_harmed_while_the_collector_is_away(
    start_own: StartGateway, alpha: ScriptedServer, tmp_path: Path
) -> None:
    """What it did not get is counted."""
    file = tmp_path / "audit.jsonl"
    address = f"127.0.0.1:{free_port()}"
    telemetry = {"metrics": {"address": address}}
    async with start_own({"alpha": alpha.url}, audit={"file": str(file)}, telemetry=telemetry) as gateway:
        session = await gateway.initialize()
        await eventually(lambda: lines(file), "its line")
        first = gateway.local.pids["collector"]
        os.kill(first, signal.SIGSTOP)
        for number in range(20):
            assert (await gateway.call(session, "alpha__echo", id=number)).result
        os.kill(first, signal.SIGKILL)
        await eventually(
            lambda: gateway.local.pids.get("collector"), "another collector", until=lambda pid: pid != first
        )
        await gateway.call(session, "alpha__echo", id="late")
        await eventually(
            lambda: _accounted_for(address, file), "each request is there or lost", until=lambda count: count == 22
        )


async def test_what_nobody_reads_holds_nobody_up(
    start_own: StartGateway, alpha: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """More than the pipe holds while the collector hangs: clients and Envoy's end wait for none of it, and each is counted."""
    file = tmp_path / "audit.jsonl"
    audit = {"file": str(file), "arguments": "redacted"}
    address = f"127.0.0.1:{free_port()}"
    telemetry = {"metrics": {"address": address}}
    arguments = {f"{number:03d}{'x' * 70}": 1 for number in range(20)}  # a long record: few of them fill the pipe
    async with start_own({"alpha": alpha.url}, audit=audit, telemetry=telemetry) as gateway:
        session = await gateway.initialize()
        await eventually(lambda: lines(file), "its line")
        hangs = gateway.local.pids["collector"]
        os.kill(hangs, signal.SIGSTOP)
        for _ in range(20):
            answers = await asyncio.gather(*(gateway.call(session, "alpha__echo", arguments) for _ in range(40)))
            assert all(answer.result for answer in answers)
        envoy = gateway.local._envoy
        await eventually(lambda: "records_thrown_away" in caplog.text, "what does not fit is thrown away")
        os.kill(hangs, signal.SIGKILL)
        another = await eventually(
            lambda: gateway.local.pids.get("collector", 0), "another collector", until=lambda pid: pid not in (0, hangs)
        )
        await eventually(
            lambda: _accounted_for(address, file), "each request is there or lost", until=lambda count: count == 801
        )
        assert another is not None
        os.kill(another, signal.SIGSTOP)
        await asyncio.gather(*(gateway.call(session, "alpha__echo", arguments) for _ in range(600)))
        began = time.monotonic()
    assert time.monotonic() - began < 25
    assert envoy is not None
    assert envoy.returncode == 0, "it has ended by itself"


async def _accounted_for(address: str, file: Path) -> float | None:
    """Lines of the audit, and records that were lost; ``None`` while that is not known."""
    lost = values(await families(address), "mcp_gateway_records_lost_total", "none")
    return lost[""] + len(lines(file)) if lost else None


async def test_what_workers_do_themselves(start_own: StartGateway, alpha: ScriptedServer, beta: ScriptedServer) -> None:
    """What they ask servers for a request's sake is below its span. What they have counted stays when they die."""
    address = f"127.0.0.1:{free_port()}"
    async with over_http() as received, ScriptedServer("gamma") as gamma:
        telemetry = {"traces": {"endpoint": received.url}, "metrics": {"address": address}}
        servers = {server.name: server.url for server in (alpha, beta, gamma)}
        alpha.get = beta.get = gamma.get = _silent_stream
        async with start_own(servers, telemetry=telemetry) as gateway:
            session = await gateway.initialize()
            meta = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            await gateway.rpc("tools/list", {"_meta": meta}, mcp_session_id=session)
            server, *legs = await spans_of(received, TRACE, 4)
            _check_legs(server, legs, (alpha, beta, gamma))

            alpha.sessions.clear()
            meta = {"traceparent": f"00-{REPAIRED}-{PARENT}-01"}
            await gateway.rpc(METHOD, {"name": "alpha__echo", "arguments": {}, "_meta": meta}, mcp_session_id=session)
            _check_repair(await spans_of(received, REPAIRED, 4))
            await eventually(
                lambda: families(address),
                "all of it is told: the last second of a worker that is killed is not",
                until=lambda found: (_repairs(found), _legs(found)) == ({"alpha": 1}, {"open": 3, "list": 3}),
            )

            async with listen(gateway, session):
                await eventually(
                    lambda: families(address), "its stream", until=lambda found: _streams(found) == {"": 1}
                )

            died = len(gateway.workers)
            gateway.signal_workers(signal.SIGKILL)
            await eventually(
                lambda: families(address),
                "others",
                until=lambda found: (
                    values(found, "mcp_gateway_worker_restarts_total", "none") == {"": died}
                    and values(found, "mcp_gateway_workers", "none") == {"": died}
                ),
            )
            await gateway.rpc("tools/list", mcp_session_id=session)
            found = await eventually(
                lambda: families(address), "the next list", until=lambda found: _legs(found).get("list") == 6
            )
    assert _legs(found) == {"open": 3, "list": 6}
    assert _repairs(found)["alpha"] >= 1
    memory = values(found, "mcp_gateway_memory_bytes", "mcp_process")
    assert all(memory[process] > 1 << 20 for process in ("worker", "collector"))
    assert _streams(found) == {"": 0}, "those of the dead are gone, which is known"
    assert not values(found, "mcp_gateway_token_exchange_duration_seconds_count", "mcp_server"), "nobody looked"


async def _silent_stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await asyncio.Event().wait()
    return response


def _check_legs(server: Span, legs: Sequence[Span], servers: Sequence[ScriptedServer]) -> None:
    assert (server.kind, server.parent_span_id.hex()) == (Span.SPAN_KIND_SERVER, PARENT)
    by_server = {str(plain(leg.attributes)["mcp.server"]): leg for leg in legs}
    for each in servers:
        leg, [got] = by_server[each.name], each.calls("tools/list")
        assert (leg.name, leg.kind, leg.parent_span_id) == ("tools/list", Span.SPAN_KIND_CLIENT, server.span_id)
        assert server.start_time_unix_nano <= leg.start_time_unix_nano <= leg.end_time_unix_nano
        parent = f"00-{TRACE}-{leg.span_id.hex()}-01"
        assert (got.headers["traceparent"], got.message["params"]["_meta"]) == (parent, {"traceparent": parent})


def _check_repair(spans: Sequence[Span]) -> None:
    """The session is opened again below the call's own request to the server."""
    by_name = {(span.kind, span.name): span for span in spans}
    call = by_name[Span.SPAN_KIND_CLIENT, "tools/call echo"]
    for name in ("initialize", "notifications/initialized"):
        assert by_name[Span.SPAN_KIND_CLIENT, name].parent_span_id == call.span_id
    assert call.parent_span_id == by_name[Span.SPAN_KIND_SERVER, "tools/call echo"].span_id


def _legs(found: Sequence[Metric]) -> Mapping[str, float]:
    return values(found, "mcp_gateway_legs_total", "mcp_leg")


def _streams(found: Sequence[Metric]) -> Mapping[str, float]:
    return values(found, "mcp_gateway_streams", "none")


def _repairs(found: Sequence[Metric]) -> Mapping[str, float]:
    return values(found, "mcp_gateway_repairs_total", "mcp_server")


async def test_a_call_with_consent_is_one_line(start_own: StartGateway, alpha: ScriptedServer, tmp_path: Path) -> None:
    """It passes Envoy once more to run. One without consent does not, and has its own."""
    file = tmp_path / "audit.jsonl"
    vetting = [{"tools": ["delete"]}]
    async with start_own({"alpha": alpha.url}, audit={"file": str(file)}, vetting=vetting) as gateway:
        session = await gateway.initialize(capabilities={"elicitation": {}})
        for action in ("accept", "decline"):
            async with calling(gateway, session, "alpha__delete", id=action) as events:
                question = await events.message()
                await reply(gateway, session, question["id"], result={"action": action, "content": {}})
                await events.rest()
        await gateway.call(session, "alpha__echo", id="last")
        said = await eventually(
            lambda: [line for line in lines(file) if line["method"] == METHOD],
            "all lines",
            until=lambda found: len(found) >= 3,
        )
    assert {(line["jsonrpc.request.id"], line["verdict"], line.get("rule")) for line in said} == {
        ("accept", "allow", None), ("decline", "deny", "vetting"), ("last", "allow", None),
    }  # fmt: skip
    assert len(said) == 3


async def test_nothing_is_started_where_nothing_is_on(start: StartGateway, alpha: ScriptedServer) -> None:
    async with start({"alpha": alpha.url}) as gateway:
        assert "collector" not in gateway.local.pids


async def test_on_a_listener_that_others_own(tmp_path: Path, alpha: ScriptedServer) -> None:
    """`serve` keeps the collector, and its workers report. Messages of a batch come one by one, and nothing comes that is not
    for the endpoint."""
    audit = {"file": "audit.jsonl"}
    address = f"127.0.0.1:{free_port()}"
    servers = {"alpha": {"url": alpha.url}}
    async with AsyncExitStack() as stack:
        received = await stack.enter_async_context(over_grpc())
        telemetry = {"traces": {"endpoint": received.url, "protocol": "grpc"}, "metrics": {"address": address}}
        running = await stack.enter_async_context(shop(tmp_path, servers, audit=audit, telemetry=telemetry))
        await running.client.send("/website", method="GET")
        await running.client.initialize("2025-03-26")
        names = ["alpha__echo", "alpha__delete_all"]
        calls = [
            {"jsonrpc": "2.0", "id": name, "method": METHOD, "params": {"name": name, "arguments": {}}}
            for name in names
        ]
        await running.client.post(calls, traceparent=f"00-{TRACE}-{PARENT}-01")
        _check_batch(await spans_of(received, TRACE, 3))
        said = await eventually(lambda: lines(tmp_path / "audit.jsonl"), "lines", until=lambda found: len(found) >= 3)
        legs = {"open": 1, "batch": 2}
        await eventually(lambda: families(address), "workers' reports", until=lambda found: _legs(found) == legs)
    assert {(line["method"], line.get("tool"), line["verdict"]) for line in said} == {
        ("initialize", None, "allow"),
        (METHOD, "echo", "allow"),
        (METHOD, "delete_all", "deny"),
    }
    assert len(said) == 3


def _check_batch(spans: Sequence[Span]) -> None:
    """The batch itself is none, and of its messages one is denied."""
    *servers, client = spans
    assert {span.name for span in servers} == {"tools/call echo", "tools/call delete_all"}
    assert {(span.kind, span.parent_span_id.hex()) for span in servers} == {(Span.SPAN_KIND_SERVER, PARENT)}
    assert client.kind == Span.SPAN_KIND_CLIENT
