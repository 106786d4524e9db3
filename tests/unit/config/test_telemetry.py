"""Sections `telemetry`, `audit` and `status`."""

from __future__ import annotations

import pytest

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.telemetry import Otlp
from tests.unit.config.support import error_of, native

SERVERS = "servers: {a: {url: 'http://a'}}\n"


def config(text: str) -> GatewayConfig:
    return native(SERVERS + text)


def error(text: str) -> str:
    return error_of(SERVERS + text)


def test_all_is_off() -> None:
    found = config("")
    assert (found.telemetry.traces, found.telemetry.metrics, found.telemetry.logs, found.audit) == (None,) * 4
    assert found.status.address is None


def test_all_of_it() -> None:
    found = config("""
telemetry:
  answers: all
  traces: {endpoint: 'http://c:4317/', protocol: grpc, sample: 0.01, parent_based: false, service_name: tools,
           headers: {x-key: hunter2}}
  metrics: {address: '127.0.0.1:9464', otlp: {endpoint: 'https://c/otlp'}, label_values: 7}
  logs: {otlp: {endpoint: 'http://c:4318'}}
audit: {file: audit.jsonl, rotate_bytes: 1MiB, keep: 3, arguments: hash}
status: {address: 'localhost:9901'}
""")
    traces = found.telemetry.traces
    assert traces is not None
    assert (traces.endpoint, traces.protocol, traces.sample, traces.parent_based) == (
        "http://c:4317",
        "grpc",
        0.01,
        False,
    )
    assert "hunter2" not in repr(found)
    assert found.telemetry.metrics is not None
    assert found.telemetry.metrics.otlp == Otlp(endpoint="https://c/otlp")
    assert found.audit is not None
    assert (found.audit.rotate_bytes, found.audit.keep, found.audit.arguments) == (1 << 20, 3, "hash")
    assert found.status.address == "localhost:9901"


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        (
            "telemetry: {traces: {endpoint: 'collector:4317'}}",
            "telemetry.traces.endpoint",
            "base URL of an OTLP receiver",
        ),
        ("telemetry: {traces: {endpoint: 'ftp://c'}}", "telemetry.traces.endpoint", "base URL of an OTLP receiver"),
        (
            "telemetry: {traces: {endpoint: 'http://c:99999'}}",
            "telemetry.traces.endpoint",
            "base URL of an OTLP receiver",
        ),
        ("telemetry: {traces: {endpoint: 'http://c?key=k'}}", "telemetry.traces.endpoint", "set `headers` for"),
        ("telemetry: {traces: {endpoint: 'http://u:p@c'}}", "telemetry.traces.endpoint", "set `headers` for"),
        (
            "telemetry: {traces: {endpoint: 'http://c:4318/v1/traces/'}}",
            "telemetry.traces.endpoint",
            "leave out /v1/traces",
        ),
        (
            "telemetry: {logs: {otlp: {endpoint: 'http://c/v1/logs'}}}",
            "telemetry.logs.otlp.endpoint",
            "leave out /v1/logs",
        ),
        ("telemetry: {traces: {}}", "line 2, telemetry.traces", "set `endpoint`, or the variable OTEL_EXPORTER"),
        ("telemetry: {traces: {sample: 10}}", "telemetry.traces.sample", "expected a number from 0 to 1, such as 0.01"),
        ("telemetry: {traces: {sample: 1%}}", "telemetry.traces.sample", "expected a number from 0 to 1, such as 0.01"),
        (
            "telemetry: {traces: {sample: true}}",
            "telemetry.traces.sample",
            "expected a number from 0 to 1, such as 0.01",
        ),
        ("telemetry: {traces: {url: 'http://c'}}", "telemetry.traces.url", "expected one of: endpoint, protocol"),
        ("telemetry: {traces: {url: 'http://c'}}", "telemetry.traces.url", "(url is a key of servers.<name>)"),
        ("telemetry: {metrics: {port: 9464}}", "telemetry.metrics.port", "write address: 127.0.0.1:9464"),
        ("telemetry: {metrics: {endpoint: 'http://c'}}", "telemetry.metrics.endpoint", "write otlp: {endpoint: ...}"),
        ("telemetry: {logs: {endpoint: 'http://c'}}", "telemetry.logs.endpoint", "write otlp: {endpoint: ...}"),
        ("telemetry: {endpoint: 'http://c'}", "telemetry.endpoint", "traces, metrics.otlp and logs.otlp have one each"),
        ("telemetry: {audit: {file: a}}", "telemetry.audit", "a section of its own"),
        ("audit: {path: a.jsonl}", "audit.path", "the path is `file`"),
        ("status: {port: 9901}", "status.port", "write address: 127.0.0.1:9901"),
        ("telemetry: {traces: {service_name: ' '}}", "telemetry.traces.service_name", "printable"),
        ("telemetry: {traces: {protocol: thrift}}", "telemetry.traces.protocol", "grpc"),
        ("telemetry: {metrics: {address: 'unix:/m.sock'}}", "telemetry.metrics.address", "127.0.0.1:9464"),
        ("telemetry: {metrics: {label_values: 0}}", "telemetry.metrics.label_values", "at least 1"),
        ("telemetry: {logs: {}}", "telemetry.logs.otlp", "required"),
        ("audit: {}", "audit", "the audit goes nowhere"),
        ("audit: {file: logs/}", "audit.file", "path of a file"),
        ("audit: {file: a, keep: -1}", "audit.keep", "at least 0"),
        ("status: {address: 'localhost'}", "status.address", "expected an address such as"),
        ("status: {address: '0.0.0.0:9901'}", "status.address", "expected a loopback address"),
        ("status: {address: 'gateway.example:9901'}", "status.address", "expected a loopback address"),
    ],
)
def test_what_is_refused(text: str, place: str, problem: str) -> None:
    said = error(text)
    assert place in said
    assert problem in said


def test_a_key_in_a_url_is_not_repeated() -> None:
    assert "hunter2" not in error("telemetry: {traces: {endpoint: 'http://c?key=hunter2'}}")


def test_where_there_is_a_status_page() -> None:
    assert not config("").has_page
    assert not config("status: {address: ''}").has_page
    page = config("status: {address: '127.0.0.1:9901'}")
    assert (page.has_page, page.collects, page.collects_always) == (True, True, False)
