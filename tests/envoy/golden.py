"""Rendered Envoy configurations kept as files, so that a change of them is seen in review. ``make golden`` writes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mcp_extproc.address import TcpAddress, UnixAddress, parse_address
from mcp_extproc.config import GatewayConfig
from mcp_extproc.envoy.layout import ExtprocTls, Layout
from mcp_extproc.envoy.render.bootstrap import bootstrap, to_json

FOLDER = Path(__file__).parent / "golden"

_SOCKETS = Layout.in_directory(Path("/run/mcp-extproc"))
_TCP = Layout(
    (parse_address("gateway:9002"),),
    TcpAddress("127.0.0.1", 9003),
    TcpAddress("127.0.0.1", 9004),
    TcpAddress("127.0.0.1", 9901),
    UnixAddress("/run/mcp-extproc/bridge.sock"),
)

CASES: dict[str, tuple[dict[str, Any], Layout]] = {
    "one-server": ({"servers": {"notes": {"url": "http://127.0.0.1:3001/mcp", "prefix": ""}}}, _SOCKETS),
    "telemetry": (
        {
            "servers": {"notes": {"url": "http://127.0.0.1:3001/mcp"}},
            "telemetry": {"traces": {"endpoint": "http://collector:4317", "headers": {"x-key": "hush"}}, "metrics": {}},
            "audit": {"file": "audit.jsonl"},
        },
        replace(_SOCKETS, collector=UnixAddress("/run/mcp-extproc/collector.sock")),
    ),
    "stdio": (
        {"servers": {"local": {"command": ["npx", "-y", "server", "--key=hush"], "env": {"KEY": "hush"}}}},
        _SOCKETS,
    ),
    "sse": (
        {
            "log": {"access": ""},
            "servers": {
                "old": {
                    "endpoints": ["10.0.0.7:8443", "old.internal:8443"], "transport": "sse", "tls": {"ca": "/etc/ca.pem"},
                    "headers": {"x-key": "hush"}, "health_check": {}, "outlier_detection": {},
                    "circuit_breakers": {"max_requests": 30}, "timeout": "1m", "idle_timeout": "1m", "http2": True,
                },
                "unknown": {"url": "http://10.0.0.10:3001/sse?key=hush", "transport": "auto"},
            },
        },
        _SOCKETS,
    ),
    "several-servers": (
        {
            "listen": {"address": "0.0.0.0", "port": 8080, "path": "/tools/mcp"},
            "limits": {"request_bytes": "1MiB"},
            "origins": ["https://app.example.com", "http://localhost:6274"],
            "servers": {
                "local": {"url": "http://localhost:3001/mcp?key=hush", "headers": {"x-api-key": "hush"}},
                "remote": {"url": "https://mcp.example.com/v1", "timeout": "10m", "connect_timeout": "2s"},
                "replicas": {"endpoints": ["10.0.0.7:8080", "replica.internal:8080", "[fd00::7]:8080"], "path": "/mcp"},
                "private": {
                    "url": "https://10.1.2.3:8443/mcp",
                    "tls": {
                        "ca": "/etc/ca.pem", "sni": "private.internal",
                        "client_certificate": "/etc/client.pem", "client_key": "/etc/client.key",
                    },
                },
                "unverified": {"endpoints": ["10.1.2.4:8443"], "tls": {"insecure_skip_verify": True}},
            },
        },
        _TCP,
    ),
    "quiet": ({"log": {"access": ""}, "servers": {"notes": {"url": "http://notes:3001/mcp"}}}, _SOCKETS),
    "several-workers": (
        {"log": {"access": ""}, "servers": {"notes": {"url": "http://127.0.0.1:3001/mcp"}}},
        Layout.in_directory(Path("/run/mcp-extproc"), workers=2),
    ),
    "vetting": (
        {
            "log": {"access": "/dev/stdout"},
            "servers": {"notes": {"url": "http://127.0.0.1:3001/mcp"}},
            "rate_limits": [{"requests": 2, "per": "minute", "by": ["session"]}],
            "vetting": [{"tools": ["delete_*"]}],
        },
        Layout.in_directory(Path("/run/mcp-extproc"), workers=2),
    ),
    "resilience": (
        {
            "log": {"access": ""},
            "listen": {
                "tls": {"certificate": "/etc/client.pem", "key": "/etc/client.key", "client_ca": "/etc/ca.pem"},
                "limits": {
                    "max_request_headers_kb": 32, "max_headers_count": 50, "per_connection_buffer_limit_bytes": "64KiB",
                    "idle_timeout": "10m", "max_connection_duration": "1h", "max_requests_per_connection": 1000,
                },
            },
            "overload": {"max_active_downstream_connections": 5000, "max_heap_size_bytes": "512MiB"},
            "servers": {
                "stateful": {
                    "endpoints": ["notes:3001", "10.0.0.7:3001"], "sticky_sessions": True, "load_balancing": "random",
                    "dns": {"refresh_rate": "30s", "failure_refresh_rate": "1s", "lookup_family": "all"},
                    "health_check": {}, "outlier_detection": {},
                },
                "shared": {
                    "endpoints": ["10.0.0.8:3001", "10.0.0.9:3001"], "tls": {"ca": "/etc/ca.pem"}, "http2": True,
                    "load_balancing": "ring_hash", "health_check": {"path": "/health", "expected_statuses": ["200-299"]},
                    "circuit_breakers": {
                        "max_connections": 10, "max_pending_requests": 20, "max_requests": 30, "max_retries": 40,
                    },
                    "retries": {"num_retries": 3}, "keepalive": {"time": "30s", "http2_interval": "15s"},
                    "idle_timeout": "1m", "max_requests_per_connection": 100,
                },
                "plain": {"url": "http://10.0.0.10:3001/mcp"},
            },
        },
        _SOCKETS,
    ),
    "authentication": (
        {
            "log": {"access": ""},
            "servers": {"notes": {"url": "http://127.0.0.1:3001/mcp"}},
            "listen": {"tls": {"certificate": "/etc/client.pem", "key": "/etc/client.key"}},
            "authentication": {
                "public_url": "https://gateway.example.com",
                "oauth": {
                    "scopes_supported": ["mcp:call"],
                    "issuers": [{"issuer": "https://idp.example.com"}, {"issuer": "https://other.example.com"}],
                },
                "api_keys": {
                    "file": "/etc/mcp/keys.yaml",
                    "from": [{"header": "x-api-key"}, {"query": "key"}, {"cookie": "key"}],
                },
                "external": {
                    "grpc": "https://authz.internal:9000", "ca": "/etc/ca.pem",
                    "from": [{"header": "authorization"}, {"cookie": "session"}],
                    "principal_header": "x-user", "groups_header": "x-groups", "scopes_header": "x-scopes",
                },
                "mtls": {"ca": "/etc/ca.pem"},
            },
        },
        _SOCKETS,
    ),
    "virtual-servers": (
        {
            "servers": {"notes": {"url": "http://127.0.0.1:3001/mcp"}, "dates": {"url": "http://127.0.0.1:3002/mcp"}},
            "virtual_servers": {
                "team/readonly": {"servers": {"notes": {"tools": ["read_*"]}}},
                "by-host": {"hosts": ["v.example", "*.w.example", "::1"], "servers": {"dates": "all"}},
                "by-header": {"path": "/mcp", "headers": {"x-tenant": "acme"}, "servers": {"dates": "all"}},
            },
            "virtual_server_header": True,
            "envoy": {
                "http_filters": [
                    {
                        "name": "audit",
                        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"},
                    },
                ],
            },
        },
        _SOCKETS,
    ),
    "no-main-endpoint": (
        {
            "log": {"access": ""},
            "servers": {
                "a.notes": {"url": "http://127.0.0.1:3001/mcp", "prefix": "notes"},
                "b.notes": {"url": "http://127.0.0.1:3002/mcp", "prefix": "notes"},
            },
            "main_endpoint": False,
            "virtual_servers": {
                "a": {"path": "/mcp", "headers": {"x-tenant": "a"}, "servers": {"a.notes": "all"}},
                "b": {
                    "path": "/mcp", "servers": {"b.notes": "all"},
                    "authentication": {"api_keys": {"file": "/etc/mcp/keys.yaml"}},
                },
            },
        },
        _SOCKETS,
    ),
    "tokens-alone": (
        {
            "log": {"access": ""},
            "servers": {"notes": {"url": "http://127.0.0.1:3001/mcp"}},
            "authentication": {
                "oauth": {
                    "resource": "https://gateway.example.com/mcp", "issuers": [{"issuer": "https://idp.example.com"}],
                },
            },
        },
        _SOCKETS,
    ),
    "tokens-without-supervisor": (
        {
            "log": {"access": ""},
            "servers": {"notes": {"url": "http://127.0.0.1:3001/mcp"}},
            "authentication": {
                "anonymous": True,
                "oauth": {
                    "resource": "https://gateway.example.com/mcp", "principal_claim": "email",
                    "issuers": [
                        {"issuer": "https://idp.example.com", "jwks": {"uri": "https://idp.example.com/jwks"}},
                    ],
                },
            },
        },
        _TCP,
    ),
    "service-that-says-who-calls": (
        {
            "log": {"access": ""},
            "servers": {"notes": {"url": "http://127.0.0.1:3001/mcp"}},
            "authentication": {
                "external": {
                    "http": "http://authz.internal:8080/check", "request_headers": ["x-forwarded-host"],
                    "principal_metadata": ["x-user"], "groups_metadata": ["x-groups"], "scopes_metadata": ["x-scopes"],
                },
            },
        },
        _SOCKETS,
    ),
    "workers-with-tls": (
        {"log": {"access": ""}, "servers": {"notes": {"url": "http://127.0.0.1:3001/mcp"}}},
        replace(
            _TCP,
            extproc=(parse_address("10.0.0.8:9002"), parse_address("gateway:9002")),
            extproc_tls=ExtprocTls("/etc/ca.pem", "/etc/client.pem", "/etc/client.key"),
        ),
    ),
}  # fmt: skip


def render(case: str) -> str:
    """The configuration of one case, as Envoy reads it."""
    document, layout = CASES[case]
    return to_json(bootstrap(GatewayConfig.model_validate(document), layout))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in CASES:
        (FOLDER / f"{name}.json").write_text(render(name))
