"""What Envoy is told about the collector, and where it is told nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.address import PipeAddress, UnixAddress
from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import ERROR_HEADER, METADATA_KEY, RECORD_FACTS
from mcp_extproc.envoy.attach.fields import words
from mcp_extproc.envoy.layout import COLLECTOR_CLUSTER, Layout
from mcp_extproc.envoy.metadata_read import keys_read
from mcp_extproc.envoy.render.bootstrap import bootstrap, to_json
from mcp_extproc.telemetry.records.line_format import line_format
from mcp_extproc.telemetry.records.messages import REQUEST_HEADERS, RESPONSE_HEADERS

LAYOUT = replace(Layout.in_directory(Path("/run/mcp")), collector=UnixAddress("/run/mcp/collector.sock"))
BY_PIPE = replace(LAYOUT, collector=PipeAddress("/run/mcp/records.pipe"))
TRACES = {"telemetry": {"traces": {"endpoint": "http://c"}}}
METRICS: Any = {"telemetry": {"metrics": {}}}
AUDIT = {"audit": {"file": "a"}}
LOGS = {"telemetry": {"logs": {"otlp": {"endpoint": "http://c"}}}}


def rendered(sections: Any, layout: Layout = LAYOUT) -> Any:
    config = GatewayConfig.model_validate({"servers": {"alpha": {"url": "http://alpha/mcp"}}, **sections})
    return json.loads(to_json(bootstrap(config, layout)))


def loggers(envoy: Any, path: str | None = None) -> list[Any]:
    """Those that send records, of all listeners, or write them to a path."""
    managers = [
        filter["typedConfig"]
        for listener in envoy["staticResources"]["listeners"]
        for chain in listener["filterChains"]
        for filter in chain["filters"]
    ]
    logs = [one for manager in managers for one in manager.get("accessLog", [])]
    if path is not None:
        return [one for one in logs if one["typedConfig"].get("path") == path]
    return [one for one in logs if one["name"] == "envoy.access_loggers.http_grpc"]


@pytest.mark.parametrize("sections", [{}, {"telemetry": {"answers": "all"}}])
def test_what_is_off_is_not_there(sections: Any) -> None:
    envoy = rendered(sections)
    assert loggers(envoy) == []
    assert COLLECTOR_CLUSTER not in words(envoy)


@pytest.mark.parametrize("sections", [TRACES, METRICS, AUDIT, LOGS])
def test_nor_where_nobody_listens(sections: Any) -> None:
    assert COLLECTOR_CLUSTER not in words(rendered(sections, replace(LAYOUT, collector=None)))


@pytest.mark.parametrize("sections", [TRACES, METRICS, AUDIT, LOGS])
def test_clients_and_messages_of_batches_are_told_of(sections: Any) -> None:
    envoy = rendered(sections)
    assert len(loggers(envoy)) == 2
    clusters = [one for one in envoy["staticResources"]["clusters"] if one["name"] == COLLECTOR_CLUSTER]
    assert len(clusters) == 1
    assert "/run/mcp/collector.sock" in words(clusters)


def test_only_sampled_calls_where_there_are_traces_alone() -> None:
    assert all("filter" in one for one in loggers(rendered(TRACES)))
    assert not any("filter" in one for one in loggers(rendered({**TRACES, **AUDIT})))


@pytest.mark.parametrize("sections", [TRACES, METRICS, AUDIT, LOGS])
def test_where_envoy_is_ours_they_are_lines_in_a_pipe(sections: Any) -> None:
    envoy = rendered(sections, BY_PIPE)
    found = loggers(envoy, "/run/mcp/records.pipe")
    assert len(found) == 2
    assert [("filter" in one) for one in found] == [("filter" in one) for one in loggers(rendered(sections))]
    line = found[0]["typedConfig"]["logFormat"]["textFormatSource"]["inlineString"]
    assert line == line_format(has_traces=sections is TRACES)
    assert COLLECTOR_CLUSTER not in words(envoy)
    assert keys_read({"accessLog": found}, ("mcp_proxy",)) == frozenset(RECORD_FACTS)
    assert loggers(rendered({}, BY_PIPE), "/run/mcp/records.pipe") == []


def test_headers_are_those_that_are_read() -> None:
    config = loggers(rendered(TRACES))[0]["typedConfig"]
    assert config["additionalRequestHeadersToLog"] == [*REQUEST_HEADERS]
    assert config["additionalResponseHeadersToLog"] == [*RESPONSE_HEADERS] == [ERROR_HEADER]
    assert "additionalRequestHeadersToLog" not in loggers(rendered(AUDIT))[0]["typedConfig"]


def test_workers_write_what_is_read_of_it() -> None:
    listener = {"accessLog": loggers(rendered(AUDIT))}
    assert keys_read(listener, ("mcp_proxy",)) == frozenset(RECORD_FACTS)
    listener["accessLog"][0]["typedConfig"]["commonConfig"]["grpcService"]["envoyGrpc"]["clusterName"] = "theirs"
    assert keys_read(listener, ("mcp_proxy",)) is None
    assert METADATA_KEY not in words(listener)
