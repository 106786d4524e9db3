"""The compared systems, and their start."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap

from bench import native
from bench.children import Child, Measured
from bench.errors import BenchError
from bench.gateway import (
    STDIO_SERVER,
    Gateway,
    Server,
    http_server,
    jwt_authn,
    policy,
    run_quietly,
    run_with_defaults,
    stdio_server,
    with_bare_filters,
    with_bridge,
    with_filter,
    with_keys,
    with_pass_through,
)
from bench.slices import SERVER
from bench.steps import STEPS_SUFFIX
from bench.tokens import AUDIENCE, ISSUER, MANY, Issuer
from bench.upstream import Ports
from mcp_extproc.contract import NAMESPACE


def envoy_child(binary: Path, directory: Path, name: str, bootstrap: str) -> Child:
    """An Envoy with one worker thread, with its configuration and log in a directory."""
    file = directory / f"{name}.json"
    file.write_text(bootstrap)
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"]
    return Child(f"envoy {name}", [binary, "-c", file, *options], directory)


_API_KEY = "a-key-for-benchmarks-known-to-all"


@dataclass(frozen=True, slots=True)
class Stage:
    """Parameters of a system's start."""

    children: ExitStack
    """Ends the processes."""
    directory: Path
    """For configurations, logs and sockets; short, because the path of a Unix socket is limited."""
    envoy: Path
    upstream: Ports
    servers: tuple[str, ...]
    """Names of the MCP servers, all of them the same upstream."""

    def access_log(self, name: str) -> Path:
        """The file of an access log."""
        return self.directory / f"{name}-access.log"

    def envoy_child(self, name: str, bootstrap: str) -> Child:
        """An Envoy with one worker thread."""
        return self.children.enter_context(envoy_child(self.envoy, self.directory, name, bootstrap))


@dataclass(frozen=True, slots=True)
class Running:
    """A started system, which may not respond yet."""

    port: int
    processes: Mapping[str, Measured]
    """By their names in the report: `envoy`, `worker` and others if there are any."""
    command: tuple[str, ...] = ()
    """Instead of a port: a stdio server, which the client starts."""
    credentials: Sequence[dict[str, str]] = ()
    """Headers that requests have in turn, if it authenticates clients. The first ones open the sessions."""
    access_log: Path | None = None
    """Its file, if it writes one. It is complete when the processes have ended."""
    told: Sequence[Path] = ()
    """Files that have something in them when the processes have ended, if it told others of the calls."""

    def check_told(self) -> None:
        """Raises BenchError if it told nobody."""
        for file in self.told:
            if not file.exists() or not file.stat().st_size:
                raise BenchError(f"{file} is empty: nobody was told of the calls")


def name_of_tool(server: str, name: str) -> str:
    """This gateway's name for a tool, and `mcp_router`'s."""
    return f"{server}__{name}"


@dataclass(frozen=True, slots=True)
class System:
    """One system to compare."""

    letter: str
    title: str
    start: Callable[[Stage], Running]
    is_gateway: bool = True
    """Whether it merges all servers, with prefixed names. Otherwise there is one server."""
    named: Callable[[str, str], str] = name_of_tool
    """A gateway's name for a tool, from the names that the server and the tool have."""
    has_sessions: bool = True
    """Whether it answers initialize with a session id, as it need not (Streamable HTTP, "Session Management")."""
    remembers_lists: bool = False
    """Whether it answers lists without asking the servers."""

    def tools(self, servers: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
        """Client-visible names of the tools, which all servers have."""
        if not self.is_gateway:
            return tuple(names)
        return tuple(self.named(server, name) for server in servers for name in names)


def _native(
    name: str, render: Callable[[int, int, Sequence[str], str], Bootstrap], *, logged: bool = False
) -> Callable[[Stage], Running]:
    def start(stage: Stage) -> Running:
        port = free_port()
        log = stage.access_log(name) if logged else None
        bootstrap = render(port, stage.upstream.sessions, stage.servers, str(log or ""))
        return Running(port, {"envoy": stage.envoy_child(name, bootstrap.to_json())}, access_log=log)

    return start


def _gateway(
    name: str,
    transport: str,
    upstream: Callable[[Ports], int] = lambda ports: ports.sessions,
    workers: int = 1,
    *,
    untrusted: bool = False,
) -> Callable[[Stage], Running]:
    def start(stage: Stage) -> Running:
        port = free_port()
        servers = dict.fromkeys(stage.servers, http_server(upstream(stage.upstream), untrusted=untrusted))
        gateway = Gateway(stage.directory / name, port, servers, transport, workers)
        processes = gateway.start(stage.children)
        return Running(port, {"envoy": stage.envoy_child(name, gateway.bootstrap()), **processes})

    return start


def _floor(name: str, upstream: Callable[[Ports], int], *, logged: bool = False) -> Callable[[Stage], Running]:
    """The prototype behind an Envoy with ext_proc and hardly another filter."""

    def start(stage: Stage) -> Running:
        port = free_port()
        servers = {server: http_server(upstream(stage.upstream)) for server in stage.servers}
        log = stage.access_log(name) if logged else None
        gateway = Gateway(stage.directory / name, port, servers, more=_logging(log) if log else {})
        worker = gateway.serve_floor(stage.children, stage.directory / f"{name}{STEPS_SUFFIX}")
        envoy = stage.envoy_child(name, with_bare_filters(gateway.bootstrap()))
        return Running(port, {"envoy": envoy, "worker": worker}, access_log=log)

    return start


def _logged_gateway(stage: Stage) -> Running:
    log = stage.access_log("d")
    return replace(_one_worker(stage, "d-logged", _logging(log)), access_log=log)


def _logging(log: Path) -> dict[str, object]:
    return {"log": {"access": str(log), "level": "warning"}}


def _inspected(stage: Stage) -> Running:
    """Plain Envoy, whose requests pass through."""
    port = free_port()
    existing = native.plain(port, stage.upstream.sessions, stage.servers).to_json()
    attached, worker = with_pass_through(stage.directory / "pass-through", existing, stage.children)
    return Running(port, {"envoy": stage.envoy_child("pass-through", attached), "worker": worker})


def _judged_gateway(stage: Stage) -> Running:
    return _one_worker(stage, "d-policy", {"envoy": {"http_filters": [policy(NAMESPACE)]}})


def _with_tokens(name: str, tokens: int) -> Callable[[Stage], Running]:
    """A gateway whose clients bring so many access tokens in turn."""

    def start(stage: Stage) -> Running:
        issuer = Issuer()
        running = _one_worker(stage, name, {"authentication": {"oauth": _oauth(stage, name, issuer)}})
        return replace(running, credentials=_bearing(issuer, tokens))

    return start


def _with_plain_filter(name: str) -> Callable[[Stage], Running]:
    """A gateway that knows nothing of tokens, behind a filter that verifies the one that is used again and again."""

    def start(stage: Stage) -> Running:
        issuer = Issuer()
        filter = jwt_authn(ISSUER, AUDIENCE, issuer.keys().decode())
        running = _one_worker(stage, name, {}, lambda bootstrap: with_filter(bootstrap, filter))
        return replace(running, credentials=_bearing(issuer))

    return start


def _with_methods(name: str, brought: Callable[[Issuer], Sequence[dict[str, str]]]) -> Callable[[Stage], Running]:
    """A gateway with several methods of authentication; `brought` tells what its clients bring."""

    def start(stage: Stage) -> Running:
        issuer = Issuer()
        file = stage.directory / f"{name}-api-keys.json"
        file.write_text("{}")  # those that count are in Envoy's configuration
        methods = {"oauth": _oauth(stage, name, issuer), "api_keys": {"file": str(file)}}
        running = _one_worker(
            stage, name, {"authentication": methods}, lambda bootstrap: with_keys(bootstrap, {"bench": _API_KEY})
        )
        return replace(running, credentials=brought(issuer))

    return start


def _oauth(stage: Stage, name: str, issuer: Issuer) -> dict[str, object]:
    keys = stage.directory / f"{name}-keys.json"
    issuer.write_keys(keys)
    return {"issuers": [{"issuer": ISSUER, "audiences": [AUDIENCE], "jwks": {"file": str(keys)}}]}


def _bearing(issuer: Issuer, tokens: int = 1) -> list[dict[str, str]]:
    return [{"authorization": f"Bearer {token}"} for token in issuer.tokens(tokens)]


def _one_worker(
    stage: Stage, name: str, more: Mapping[str, object], completed: Callable[[str], str] = lambda bootstrap: bootstrap
) -> Running:
    """A gateway whose configuration has more in it; `completed` adds to Envoy's what the gateway does not print."""
    port = free_port()
    servers = dict.fromkeys(stage.servers, http_server(stage.upstream.sessions))
    gateway = Gateway(stage.directory / name, port, servers, more=more)
    processes = gateway.start(stage.children)
    return Running(port, {"envoy": stage.envoy_child(name, completed(gateway.bootstrap())), **processes})


def _telling(name: str, *what: str, sample: float = 1.0) -> Callable[[Stage], Running]:
    """`run` that tells others of calls: of `metrics`, `traces` and `audit` those in `what`."""

    def start(stage: Stage) -> Running:
        directory = stage.directory / name
        audit, spans = directory / "audit.jsonl", stage.directory / f"{name}-spans"
        telemetry: dict[str, object] = {}
        if "metrics" in what:
            telemetry["metrics"] = {"address": f"127.0.0.1:{free_port()}"}
        if "traces" in what:
            receiver = stage.children.enter_context(Child.module("bench.receiver", stage.directory, str(spans)))
            url = f"http://127.0.0.1:{int(receiver.read_line())}"
            telemetry["traces"] = {"endpoint": url, "protocol": "http/protobuf", "sample": sample}
        more = {"telemetry": telemetry} | (
            {"audit": {"file": str(audit), "arguments": "hash"}} if "audit" in what else {}
        )
        port, servers = free_port(), dict.fromkeys(stage.servers, http_server(stage.upstream.sessions))
        processes = run_quietly(directory, port, servers, stage.envoy, stage.children, more)
        told = [file for word, file in (("audit", audit), ("traces", spans)) if word in what]
        return Running(port, processes, told=told)

    return start


def _own_http(stage: Stage) -> Running:
    """With an upstream of its own, whose CPU is that of one system."""
    directory = stage.directory / "http-server"
    directory.mkdir()
    server = stage.children.enter_context(Child.module("bench.upstream", directory))
    port = Ports.parse(server.read_line()).sessions
    return _one_server(stage, "http", http_server(port), lambda serving: {"worker": serving, SERVER: server})


def _stdio(sharing: str) -> Callable[[Stage], Running]:
    return lambda stage: _one_server(stage, f"stdio-{sharing}", stdio_server(sharing), with_bridge)


def _one_server(
    stage: Stage, name: str, server: Server, processes: Callable[[Child], Mapping[str, Measured]]
) -> Running:
    """A gateway with one worker; `processes` tells what it consists of besides Envoy."""
    port = free_port()
    gateway = Gateway(stage.directory / name, port, dict.fromkeys(stage.servers, server))
    serving = gateway.serve(stage.children)
    return Running(port, {"envoy": stage.envoy_child(name, gateway.bootstrap()), **processes(serving)})


def _run(name: str, more: Mapping[str, object]) -> Callable[[Stage], Running]:
    def start(stage: Stage) -> Running:
        port = free_port()
        servers = dict.fromkeys(stage.servers, http_server(stage.upstream.sessions))
        processes = run_with_defaults(stage.directory / name, port, servers, stage.envoy, stage.children, more)
        return Running(port, processes)

    return start


def _direct(_: Stage) -> Running:
    return Running(0, {}, STDIO_SERVER)


def prefixed(servers: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Client-visible names of a gateway for tools that all servers have."""
    return tuple(name_of_tool(server, name) for server in servers for name in names)


def free_port() -> int:
    """A free loopback port. Another process may take it before Envoy does, which Envoy's error would show."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _sessions(ports: Ports) -> int:
    return ports.sessions


def _events(ports: Ports) -> int:
    return ports.events


def _stateless(ports: Ports) -> int:
    return ports.stateless


def _resources(ports: Ports) -> int:
    return ports.resources


SYSTEMS: Mapping[str, System] = {
    "plain": System("a", "plain Envoy, no filter", _native("plain", native.plain), is_gateway=False),
    "mcp": System("b", "Envoy's mcp filter", _native("mcp", native.parsing), is_gateway=False),
    "router": System("c", "Envoy's mcp + mcp_router", _native("router", native.routing)),
    "router-strict": System("c", "refusing duplicate keys", _native("router-strict", native.strict)),
    "router-policy": System("c", "under an RBAC policy", _native("router-policy", native.judged)),
    "gateway": System("d", "this gateway", _gateway("d", "http2")),
    "router-logged": System("c", "mcp + mcp_router, logging", _native("router-logged", native.routing, logged=True)),
    "gateway-logged": System("d", "this gateway, logging", _logged_gateway),
    "policy": System("d", "under an RBAC policy", _judged_gateway),
    "again": System("d", "the same once more", _gateway("d-again", "http2")),
    "token": System("d", "a token, used again", _with_tokens("d-token", 1)),
    "jwt": System("d", "Envoy's jwt_authn alone in front", _with_plain_filter("d-jwt")),
    "tokens": System("d", "a token's first use", _with_tokens("d-tokens", MANY)),
    "methods": System("d", "with API keys, too: a token", _with_methods("d-methods", _bearing)),
    "key": System("d", "with API keys, too: a key", _with_methods("d-key", lambda _: [{"x-api-key": _API_KEY}])),
    "quiet": System("d", "nothing", _telling("d-quiet")),
    "quiet-again": System("d", "nothing, once more", _telling("d-quiet-again")),
    "metrics": System("d", "metrics", _telling("d-metrics", "metrics")),
    "traces-1": System("d", "traces of 1 %", _telling("d-traces-1", "traces", sample=0.01)),
    "traces": System("d", "traces of all", _telling("d-traces", "traces")),
    "audit": System("d", "the audit", _telling("d-audit", "audit")),
    "telling": System("d", "metrics, traces of all, the audit", _telling("d-telling", "metrics", "traces", "audit")),
    "run": System("d", "`run` with its defaults", _run("run", {})),
    "run-no-page": System("d", "`run` without a status page", _run("run-no-page", {"status": {"address": ""}})),
    "events": System("d", "servers that begin with events", _gateway("d-events", "http2", _events)),
    "stateless": System("d", "servers without sessions", _gateway("d-stateless", "http2", _stateless)),
    "untrusted": System("d", "untrusted servers", _gateway("d-untrusted", "http2", untrusted=True)),
    "resources": System("d", "servers with resources", _gateway("d-resources", "http2", _resources)),
    "workers": System("d", "two workers", _gateway("d-workers", "http2", workers=2)),
    "floor": System("p", "a prototype, ext_proc alone", _floor("floor", _sessions)),
    "floor-logged": System("p", "a prototype, logging", _floor("floor-logged", _sessions, logged=True)),
    "floor-events": System("p", "a prototype, servers that begin with events", _floor("floor-events", _events)),
    "floor-stateless": System("p", "a prototype, servers without sessions", _floor("floor-stateless", _stateless)),
    "pass-through": System("j", "pass-through on plain Envoy", _inspected, is_gateway=False),
    "http": System("f", "a server on HTTP", _own_http),
    "stdio": System("g", "on stdio, a child for each session", _stdio("session")),
    "shared": System("h", "on stdio, one child for all", _stdio("shared")),
    "direct": System("i", "on stdio, without gateway", _direct, is_gateway=False),
    "grpcio": System("e", "this gateway on grpcio", _gateway("e", "grpcio")),
    "grpcio-events": System("e", "servers that begin with events", _gateway("e-events", "grpcio", _events)),
    "grpcio-stateless": System("e", "servers without sessions", _gateway("e-stateless", "grpcio", _stateless)),
    "grpcio-workers": System("e", "two workers", _gateway("e-workers", "grpcio", workers=2)),
}


class Variants(NamedTuple):
    """The systems for this gateway on one transport."""

    gateway: str
    events: str
    """With servers that answer with event streams."""
    stateless: str
    """The same, without sessions."""
    workers: str
    """With two workers."""


TRANSPORTS: Mapping[str, Variants] = {
    "http2": Variants("gateway", "events", "stateless", "workers"),
    "grpcio": Variants("grpcio", "grpcio-events", "grpcio-stateless", "grpcio-workers"),
}
"""By the values of --transports."""
