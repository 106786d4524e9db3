"""Envoy AI Gateway: an MCP proxy in Go between two listeners of an Envoy that Envoy Gateway configures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from bench.children import Child, Part
from bench.clock import name_of
from bench.machine import envoy_version
from bench.peers.peer import Peer, urls
from bench.peers.workshop import Release, Workshop, without
from bench.systems import Running, Stage, free_port

_RELEASE = Release(
    "https://github.com/envoyproxy/ai-gateway", "v1.1.0", "c217da8a539570ba3f6014a60c2687c29a945f1f", "2026-08-21"
)

_GATEWAY = "aigw-run"


class Aigw(Peer):
    """`aigw run`, its command for one machine, as it is without options. Its fixed ports allow one at a time."""

    name = "aigw"
    title = "Envoy AI Gateway"
    version = _RELEASE.tag.removeprefix("v")
    released = _RELEASE.date
    remark = (
        "Go. `aigw run` with the resources that it makes of an `mcp-servers.json`, on the same Envoy as this gateway, with "
        "one worker thread. As by default, it derives the key of a session with 100,000 iterations each time, and logs "
        "accesses."
    )
    tuned = False
    patience = 120.0

    def missing(self) -> str:
        """Go and Git."""
        return without("go", "git")

    def built(self, workshop: Workshop) -> Path:
        """One binary, for all configurations."""
        return workshop.built(Aigw.name, _RELEASE.tag)

    def build(self, workshop: Workshop) -> None:
        """From its repository."""
        workshop.build_go(Aigw.name, _RELEASE, "./cmd/aigw")

    def start(self, stage: Stage, built: Path) -> Running:
        """One process, and Envoy as its child."""
        home = stage.directory / self.name
        home.mkdir()
        port, admin = free_port(), free_port()
        version = envoy_version(stage.envoy)
        _provide(stage.envoy, home / "data" / "envoy-versions" / version / "bin" / "envoy")
        file = home / "resources.yaml"
        servers = urls(stage.servers, stage.upstream.sessions)
        file.write_text(resources(port, servers, version, log=not self.tuned))
        options = ["--mcp-session-encryption-iterations", "1"] if self.tuned else []
        # HOME: Envoy Gateway keeps its certificates there.
        folders = {f"AIGW_{name}_HOME": str(home / name.lower()) for name in ("CONFIG", "DATA", "STATE")}
        environment = {"HOME": str(home), "AIGW_RUNTIME_DIR": str(home / "run"), "AIGW_RUN_ID": "0", **folders}
        command: list[str | Path] = [built, "run", file, "--admin-port", str(admin), *options]
        running = stage.children.enter_context(Child(self.name, command, stage.directory, environment=environment))
        return Running(
            port,
            {
                "envoy": Part(running, lambda pids: tuple(pid for pid in pids if name_of(pid) == "envoy")),
                "gateway": Part(running, lambda pids: tuple(pid for pid in pids if name_of(pid) != "envoy")),
            },
        )


class TunedAigw(Aigw):
    """Without what makes the default slow."""

    name = "aigw-tuned"
    title = "Envoy AI Gateway (tuned)"
    remark = "The same with one iteration (`--mcp-session-encryption-iterations 1`) and without access log."
    tuned = True


def _provide(envoy: Path, place: Path) -> None:
    """Puts Envoy where `aigw` would keep one that it downloads."""
    place.parent.mkdir(parents=True)
    place.symlink_to(envoy.resolve())


def resources(port: int, servers: Mapping[str, str], envoy_version: str, *, log: bool) -> str:
    """What internal/autoconfig/config.yaml.tmpl makes of an `mcp-servers.json`, with one worker thread.

    Args:
        port: of the clients' listener.
        servers: addresses by name.
        envoy_version: of the Envoy that it is to use.
        log: whether to log accesses, as it does by default.
    """
    return yaml.safe_dump_all(
        [
            _resource("gateway.networking.k8s.io/v1", "GatewayClass", _GATEWAY, _CLASS),
            _resource("gateway.networking.k8s.io/v1", "Gateway", _GATEWAY, _gateway(port)),
            _resource("gateway.envoyproxy.io/v1alpha1", "EnvoyProxy", "envoy-ai-gateway", _proxy(envoy_version, log=log)),
            _resource("aigateway.envoyproxy.io/v1beta1", "MCPRoute", "mcp-route", _route(servers)),
            *(_resource("gateway.envoyproxy.io/v1alpha1", "Backend", name, _backend(url)) for name, url in servers.items()),
            _resource("gateway.envoyproxy.io/v1alpha1", "ClientTrafficPolicy", "client-buffer-limit", _BUFFER),
        ]
    )  # fmt: skip


def _resource(version: str, kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    namespace = {} if kind == "GatewayClass" else {"namespace": "default"}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **namespace}, "spec": dict(spec)}


_CLASS = {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"}

_BUFFER = {
    "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": _GATEWAY}],
    "connection": {"bufferLimit": "50Mi"},
}

_LOGGED = {
    "jsonrpc.request.id": "%DYNAMIC_METADATA(io.envoy.ai_gateway:mcp_request_id)%",
    "mcp.session.id": "%REQ(MCP-SESSION-ID)%",
    "mcp.method.name": "%DYNAMIC_METADATA(io.envoy.ai_gateway:mcp_method)%",
    "mcp.tool.name": "%DYNAMIC_METADATA(io.envoy.ai_gateway:mcp_tool_name)%",
    "session.id": "%DYNAMIC_METADATA(io.envoy.ai_gateway:session.id)%",
    "mcp.provider.name": "%DYNAMIC_METADATA(io.envoy.ai_gateway:mcp_backend)%",
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "request.path": "%REQ(:PATH)%",
    "x-envoy-origin-path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "response_code": "%RESPONSE_CODE%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "x-envoy-upstream-service-time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x-forwarded-for": "%REQ(X-FORWARDED-FOR)%",
    "user-agent": "%REQ(USER-AGENT)%",
    "x-request-id": "%REQ(X-REQUEST-ID)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
}
"""The template's fields of MCP requests, and those of all."""


def _gateway(port: int) -> dict[str, Any]:
    parameters = {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "envoy-ai-gateway"}
    return {
        "gatewayClassName": _GATEWAY,
        "listeners": [{"name": "http", "protocol": "HTTP", "port": port}],
        "infrastructure": {"parametersRef": parameters},
    }


def _proxy(version: str, *, log: bool) -> dict[str, Any]:
    settings = {
        "matches": ["request.headers['x-ai-eg-mcp-backend'] != ''"],
        "sinks": [{"type": "File", "file": {"path": "/dev/stdout"}}],
        "format": {"type": "JSON", "json": _LOGGED},
    }
    return {
        "provider": {"type": "Host", "host": {"envoyVersion": version}},
        "concurrency": 1,
        "logging": {"level": {"default": "error"}},
        "telemetry": {"accessLog": {"settings": [settings]} if log else {"disable": True}},
    }


def _route(servers: Mapping[str, str]) -> dict[str, Any]:
    backends = [
        {"name": name, "kind": "Backend", "group": "gateway.envoyproxy.io", "path": urlsplit(url).path}
        for name, url in servers.items()
    ]
    parent = {"name": _GATEWAY, "kind": "Gateway", "group": "gateway.networking.k8s.io"}
    return {"parentRefs": [parent], "path": "/mcp", "backendRefs": backends}


def _backend(url: str) -> dict[str, Any]:
    where = urlsplit(url)
    return {"endpoints": [{"ip": {"address": where.hostname, "port": where.port}}]}
