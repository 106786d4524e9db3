"""Kuadrant's mcp-gateway: an ext_proc service in Go behind Envoy (the router), and an MCP server that lists (the broker)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from bench.children import Child
from bench.peers.peer import Peer, urls
from bench.peers.workshop import Release, Workshop, without
from bench.systems import Running, Stage, free_port

_RELEASE = Release(
    "https://github.com/Kuadrant/mcp-gateway", "v0.9.0", "c18d2db78e2814bb13dd7318a52be4076f6327a6", "2026-08-14"
)


class Kuadrant(Peer):
    """With the Envoy that this gateway has."""

    name = "kuadrant"
    title = "Kuadrant mcp-gateway"
    version = _RELEASE.tag.removeprefix("v")
    released = _RELEASE.date
    remark = (
        "Go. Envoy with its ext_proc filter as the controller renders it for Istio, one worker thread; router and broker "
        "are one process. Without its meta-tools (`--discovery-tools-enabled=false`), log level `warn`. It answers lists "
        "from memory."
    )
    remembers_lists = True

    def missing(self) -> str:
        """Go and Git."""
        return without("go", "git")

    def built(self, workshop: Workshop) -> Path:
        """One binary."""
        return workshop.built(self.name, _RELEASE.tag)

    def build(self, workshop: Workshop) -> None:
        """From its repository."""
        workshop.build_go(self.name, _RELEASE, "./cmd/mcp-broker-router")

    def start(self, stage: Stage, built: Path) -> Running:
        """Envoy, and the router with the broker."""
        port, broker, router, metrics = (free_port() for _ in range(4))
        servers = urls(stage.servers, stage.upstream.sessions)
        file = stage.directory / "kuadrant.yaml"
        file.write_text(configuration(servers))
        gateway = Child(
            "kuadrant",
            [
                built,
                f"--mcp-gateway-config={file}",
                f"--mcp-gateway-public-host=127.0.0.1:{port}",
                f"--mcp-gateway-private-host=127.0.0.1:{port}",
                f"--mcp-broker-public-address=127.0.0.1:{broker}",
                f"--mcp-router-address=127.0.0.1:{router}",
                f"--metrics-addr=127.0.0.1:{metrics}",
                "--discovery-tools-enabled=false",
                "--log-level=4",
            ],
            stage.directory,
            environment={"GATEWAY_SIGNING_KEY": "a key for benchmarks, known to all"},
        )
        stage.children.enter_context(gateway)
        envoy = stage.envoy_child("kuadrant", bootstrap(port, broker, router, servers))
        return Running(port, {"envoy": envoy, "gateway": gateway})


def configuration(servers: Mapping[str, str]) -> str:
    """The file that its controller writes for router and broker.

    Args:
        servers: addresses by name.
    """
    entries = [
        {"name": name, "url": url, "hostname": _host(name), "prefix": f"{name}__", "state": "Enabled"}
        for name, url in servers.items()
    ]
    return yaml.safe_dump({"servers": entries})


def bootstrap(port: int, broker: int, router: int, servers: Mapping[str, str]) -> str:
    """Envoy's configuration: the filter of internal/controller (`buildEnvoyFilter`), a route to the broker, and one to each
    server by its host name, as from the HTTPRoutes.

    Args:
        port: of the clients' listener, to which the router also sends requests of its own.
        broker: its port.
        router: its port, for gRPC.
        servers: addresses by name.
    """
    hosts = [_virtual_host("broker", f"127.0.0.1:{port}"), *(_virtual_host(name, _host(name)) for name in servers)]
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "mcp",
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [_EXT_PROC, _ROUTER],
        "use_remote_address": True,
    }
    listener = {
        "name": "mcp",
        "address": _address(port),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    ports = {"broker": broker} | {name: urlsplit(url).port or 0 for name, url in servers.items()}
    clusters = [_cluster("router", router, _HTTP2), *(_cluster(name, where) for name, where in ports.items())]
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": clusters}})


_EXT_PROC = {
    "name": "envoy.filters.http.ext_proc",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
        "failure_mode_allow": False,
        "allow_mode_override": True,
        "mutation_rules": {"allow_all_routing": True},
        "message_timeout": "10s",
        "processing_mode": {
            "request_header_mode": "SEND",
            "response_header_mode": "SEND",
            "request_body_mode": "BUFFERED",
            "response_body_mode": "NONE",
            "request_trailer_mode": "SKIP",
            "response_trailer_mode": "SKIP",
        },
        "grpc_service": {"envoy_grpc": {"cluster_name": "router"}},
    },
}

_ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
}

_HTTP2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}


def _host(server: str) -> str:
    return f"{server}.bench.example"


def _virtual_host(cluster: str, *domains: str) -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}
    return {"name": cluster, "domains": list(domains), "routes": [route]}


def _cluster(name: str, port: int, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    endpoints: Sequence[Any] = [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}]
    cluster: dict[str, Any] = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    }
    return cluster | ({"typed_extension_protocol_options": options} if options else {})


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
