"""What Envoy's admin interface says, as Envoy 1.40 writes it."""

from __future__ import annotations

import re
from typing import Any

from mcp_extproc.status import numbers as module
from mcp_extproc.status.numbers import hosts, numbers

STATS: dict[str, Any] = {
    "stats": [
        {"name": "cluster.mcp/notes.upstream_rq_total", "value": 8},
        {"name": "cluster.mcp/notes.upstream_rq_5xx", "value": 2},
        {"name": "cluster.mcp/notes.circuit_breakers.default.rq_open", "value": 1},
        {"name": "cluster.mcp/notes.circuit_breakers.default.cx_open", "value": 0},
        {"name": "cluster.mcp/notes.outlier_detection.ejections_active", "value": 1},
        {"name": "http.mcp.downstream_rq_active", "value": 3},
        {"name": "http.mcp.rbac.policy.deny.denied", "value": 1},
        {"name": "http.mcp.rbac.denied", "value": 4},
        {"name": "mcp_calls.http_local_rate_limit.rate_limited", "value": 5},
        {"name": "runtime.admin_overrides_active", "value": 1},
        {"name": "server.uptime", "value": 25},
        {
            "histograms": {
                "supported_quantiles": [0.0, 50.0, 95.0, 99.0],
                "computed_quantiles": [
                    {
                        "name": "cluster.mcp/notes.upstream_rq_time",
                        "values": [{"cumulative": number, "interval": None} for number in (1.0, 4.05, 12.5, 12.6)],
                    },
                    {
                        "name": "cluster.mcp/dates.upstream_rq_time",
                        "values": [{"cumulative": None, "interval": None}] * 4,
                    },
                    {
                        "name": "cluster.mcp/files.upstream_rq_time",
                        "values": [{"cumulative": 1.0, "interval": None}] * 4,
                    },
                ],
            }
        },
    ]
}


def test_numbers() -> None:
    found = numbers(STATS)
    assert found["clusters"]["mcp/notes"] == {
        "open": ["rq"],
        "rq_total": 8,
        "rq_5xx": 2,
        "outlier_detection_ejections_active": 1,
        "time": {"p50": 4.05, "p95": 12.5, "p99": 12.6},
    }
    assert found["clusters"]["mcp/files"]["open"] == []
    assert "mcp/dates" not in found["clusters"], "no duration is not a duration of zero"
    assert found["listener"] == {"rq_active": 3}
    assert found["denied"] == {"rbac": 5, "rate_limit": 5}
    assert (found["watches"], found["uptime"]) == (True, 25)


def test_only_these_are_asked_for() -> None:
    pattern = re.compile(module._STATS)
    assert all(pattern.search(one["name"]) for one in STATS["stats"] if isinstance(one.get("name"), str))
    assert not pattern.search("cluster.mcp/notes.external.upstream_rq_2xx")
    assert not pattern.search("cluster.mcp_extproc.upstream_rq_total")


def test_hosts() -> None:
    said = {
        "cluster_statuses": [
            {"name": "mcp_extproc"},
            {
                "name": "mcp/notes",
                "host_statuses": [
                    {
                        "address": {"socket_address": {"address": "::1", "port_value": 80}},
                        "health_status": {"eds_health_status": "HEALTHY", "failed_outlier_check": True},
                    },
                    {"address": {"pipe": {"path": "/repair.sock"}}},
                ],
            },
            {"name": "mcp/empty"},
        ]
    }
    assert hosts(said) == {
        "mcp/notes": [
            {"address": "[::1]:80", "problems": ["ejected: it failed too often"]},
            {"address": "unix", "problems": []},
        ],
        "mcp/empty": [],
    }
