"""This gateway as users start it: with its command line and a configuration file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from bench.children import Child, Measured, Part
from bench.clock import command_of, family, name_of
from bench.errors import BenchError
from bench.slices import SERVER
from bench.steps import STEPS_VARIABLE
from mcp_extproc.cli.serve import WORKER
from mcp_extproc.envoy.layout import LISTENER

_COMMAND = Path(sys.executable).with_name("mcp-extproc")
_PASS_THROUGH: Mapping[str, object] = {"pass_through": {}, "log": {"access": "", "level": "warning"}}
"""A configuration without servers: Envoy's own routes lead to them."""
_FLOOR = (sys.executable, "-m", "bench.floor")
"""In place of it: a worker that does the least."""
_REPOSITORY = Path(__file__).resolve().parent.parent

STDIO_SERVER = (sys.executable, "-m", "bench.stdio_server")
"""The command of the benchmark's stdio server, in the repository's folder."""


def policy(namespace: str) -> dict[str, Any]:
    """An HTTP filter that judges each call by its metadata of this namespace, and denies none of those measured."""
    name = {
        "filter": namespace,
        "path": [{"key": "params"}, {"key": "name"}],
        "value": {"string_match": {"safe_regex": {"regex": ".*__delete_.*"}}},
    }
    denied = {
        "permissions": [{"sourced_metadata": {"metadata_matcher": name}}],
        "principals": [{"any": True}],
    }
    return {
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "DENY", "policies": {"no-deletion": denied}},
        },
    }


def jwt_authn(issuer: str, audience: str, keys: str) -> dict[str, Any]:
    """An HTTP filter that verifies tokens and remembers them, as anybody writes it by hand."""
    provider = {
        "issuer": issuer,
        "audiences": [audience],
        "localJwks": {"inlineString": keys},
        "forward": True,
        "payloadInMetadata": "payload",
        "jwtCacheConfig": {"jwtCacheSize": 1000},
    }
    return {
        "name": "envoy.filters.http.jwt_authn",
        "typedConfig": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {"bench": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"providerName": "bench"}}],
        },
    }


_MOST_CHILDREN = 2000

_SOCKETS = "mcp-extproc"
"""What the gateway calls its folder for sockets."""

_PATIENCE = "2m"
"""For children that start at the same time: with less, sessions would begin without them."""

Server = Mapping[str, object]
"""A server in the configuration."""


def http_server(port: int, *, untrusted: bool = False) -> Server:
    """A server at a loopback port. Of one that is untrusted each answer is read."""
    settings = {"untrusted": True} if untrusted else {}
    return {"url": f"http://127.0.0.1:{port}/mcp", "tools": _filter(), **settings}


def stdio_server(sharing: str) -> Server:
    """A server whose children the gateway starts.

    Args:
        sharing: `session` for one in each session, `shared` for one in all.
    """
    return {
        "command": list(STDIO_SERVER),
        "cwd": str(_REPOSITORY),
        "sharing": sharing,
        "max_processes": _MOST_CHILDREN,
        "start_timeout": _PATIENCE,
        "discovery_timeout": _PATIENCE,
        "tools": _filter(),
    }


def _filter() -> dict[str, list[str]]:
    """One that has to be evaluated for every name, and hides none of those measured."""
    return {"exclude": ["delete_everything"], "excludeRegex": ["^admin_", "_internal$"]}


class Gateway:
    """One gateway: its configuration file, the Envoy bootstrap rendered from it, and the workers."""

    def __init__(
        self,
        directory: Path,
        port: int,
        servers: Mapping[str, Server],
        transport: str = "http2",
        workers: int = 1,
        more: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        """Writes the configuration.

        Args:
            directory: for the file, the sockets and the logs; created if missing, not shared.
            port: where Envoy listens.
            servers: the MCP servers by name.
            transport: value of `serve --transport`.
            workers: number of processes.
            more: of the configuration, in place of what it has by default here.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._file = directory / "gateway.yaml"
        self._transport = transport
        self._sockets = [directory / f"worker{number}.sock" for number in range(1, workers + 1)]
        config = {
            "listen": {"port": port},
            "servers": {name: dict(server) for name, server in servers.items()},
            "session": {"secret": "a secret for benchmarks, known to all"},
            "log": {"access": "", "level": "warning"},  # The other systems don't log accesses either.
            **more,
        }
        self._file.write_text(yaml.safe_dump(config))
        # By default, both commands use the same Unix sockets for Envoy's private listeners.
        self._environment = {"XDG_RUNTIME_DIR": str(directory)}
        # Envoy may be there before the worker, which makes it otherwise.
        (directory / _SOCKETS).mkdir(mode=0o700)

    def bootstrap(self) -> str:
        """Envoy's configuration. Raises BenchError with the command's error if it failed."""
        where = [word for socket in self._sockets for word in ("--extproc", f"unix:{socket}")]
        return _printed(["bootstrap", self._file, *where], self._environment)

    def start(self, children: ExitStack) -> dict[str, Measured]:
        """The ext_proc workers, by their names in the report, and the supervisor of several."""
        serving = self.serve(children)
        count = len(self._sockets)
        return {"worker": serving} if count == 1 else supervised(serving, count)

    def serve_floor(self, children: ExitStack, steps: Path) -> Child:
        """The prototype in place of the worker, which writes to the file `steps` what its first calls took."""
        command: list[str | Path] = [*_FLOOR, "serve", self._file, "--listen", f"unix:{self._sockets[0]}"]
        environment = {**self._environment, STEPS_VARIABLE: str(steps)}
        return children.enter_context(Child("floor", command, self._directory, environment=environment))

    def serve(self, children: ExitStack) -> Child:
        """`serve`, as one whole."""
        command: list[str | Path] = [_COMMAND, "serve", self._file, "--transport", self._transport]
        for socket in self._sockets:
            command += ["--listen", f"unix:{socket}"]
        if len(self._sockets) > 1:
            command += ["--workers", str(len(self._sockets))]
        return children.enter_context(Child("serve", command, self._directory, environment=self._environment))


def with_pass_through(directory: Path, existing: str, children: ExitStack) -> tuple[str, Child]:
    """Somebody's configuration of Envoy, whose requests to /mcp are inspected on their way, and the worker that does it.

    Raises BenchError with the command's error if it failed.

    Args:
        directory: for the files, the socket and the logs; created.
        existing: the configuration.
        children: ends the worker.
    """
    (directory / _SOCKETS).mkdir(mode=0o700, parents=True)
    file, theirs, socket = directory / "gateway.yaml", directory / "existing.json", f"unix:{directory}/worker.sock"
    file.write_text(yaml.safe_dump(dict(_PASS_THROUGH)))
    theirs.write_text(existing)
    environment = {"XDG_RUNTIME_DIR": str(directory)}
    attached = _printed(
        ["attach", theirs, "--config", file, "--pass-through", "/mcp", "--extproc", socket], environment
    )
    command: list[str | Path] = [_COMMAND, "serve", file, "--listen", socket]
    serving = children.enter_context(Child("serve", command, directory, environment=environment))
    return json.dumps(yaml.safe_load(attached)), serving


def _printed(arguments: Sequence[str | Path], environment: Mapping[str, str]) -> str:
    """What `mcp-extproc envoy` prints. Raises BenchError with its error if it failed."""
    command: list[str | Path] = [_COMMAND, "envoy", *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(
            f"mcp-extproc envoy {arguments[0]} failed with status {done.returncode}:\n{done.stderr.strip()}"
        )
    return done.stdout


def run_with_defaults(
    directory: Path,
    port: int,
    servers: Mapping[str, Server],
    envoy: Path,
    children: ExitStack,
    more: Mapping[str, object] = MappingProxyType({}),
) -> dict[str, Measured]:
    """`run`, as the README begins: with a worker for each core, an access log, and the default log level.

    Args:
        directory: for the file, the sockets and the logs; created.
        port: where Envoy listens.
        servers: the MCP servers by name, which are all that is configured.
        envoy: its binary.
        children: ends the processes.
        more: further sections.
    """
    directory.mkdir(parents=True)
    file = directory / "gateway.yaml"
    file.write_text(yaml.safe_dump({"servers": {name: dict(server) for name, server in servers.items()}, **more}))
    command: list[str | Path] = [_COMMAND, "run", file, "--port", str(port), "--envoy", envoy]
    running = children.enter_context(Child("run", command, directory, environment={"XDG_RUNTIME_DIR": str(directory)}))
    return {
        "envoy": Part(running, lambda pids: _called("envoy", pids)),
        "worker": Part(running, lambda pids: _called(WORKER, pids)),
        "supervisor": Part(running, lambda pids: _others(pids, "envoy", WORKER)),
    }


def run_quietly(
    directory: Path,
    port: int,
    servers: Mapping[str, Server],
    envoy: Path,
    children: ExitStack,
    more: Mapping[str, object],
) -> dict[str, Measured]:
    """`run` with one worker, no access log and no status page. The arguments are those of :func:`run_with_defaults`."""
    settings = {
        "servers": {name: dict(server) for name, server in servers.items()},
        "log": {"access": "", "level": "warning"},
        "status": {"address": ""},
    }
    directory.mkdir(parents=True)
    file = directory / "gateway.yaml"
    file.write_text(yaml.safe_dump(settings | dict(more)))
    command: list[str | Path] = [_COMMAND, "run", file, "--port", str(port), "--envoy", envoy, "--workers", "1"]
    running = children.enter_context(Child("run", command, directory, environment={"XDG_RUNTIME_DIR": str(directory)}))
    return {
        "envoy": Part(running, lambda pids: _called("envoy", pids)),
        "worker": Part(running, lambda pids: _called(WORKER, pids)),
        "collector": Part(running, _collector),
        "supervisor": Part(running, lambda pids: _without(_collector(pids), _others(pids, "envoy", WORKER))),
    }


def supervised(serving: Child, workers: int) -> dict[str, Measured]:
    """What a `serve` of several workers consists of. Asking for them raises BenchError if there are more or fewer."""

    def worker(number: int) -> Part:
        return Part(serving, lambda pids: (_all(workers, pids)[number - 1],))

    names = ["worker", *(f"worker {number}" for number in range(2, workers + 1))]
    return {
        **{name: worker(number) for number, name in enumerate(names, 1)},
        "supervisor": Part(serving, lambda pids: _others(pids, WORKER)),
    }


def _all(workers: int, pids: Iterable[int]) -> tuple[int, ...]:
    found = _called(WORKER, pids)
    if len(found) != workers:
        raise BenchError(f"there are {len(found)} workers instead of {workers}")
    return found


def _called(name: str, pids: Iterable[int]) -> tuple[int, ...]:
    return tuple(pid for pid in pids if name_of(pid) == name)


def _others(pids: Iterable[int], *names: str) -> tuple[int, ...]:
    return tuple(pid for pid in pids if name_of(pid) not in names)


def with_keys(bootstrap: str, keys: Mapping[str, str]) -> str:
    """Envoy's configuration with API keys of clients by their names. `envoy bootstrap` prints none and says where they go."""
    found = json.loads(bootstrap)
    for place in _places_of_keys(found):
        place["credentials"] = [{"key": key, "client": name} for name, key in keys.items()]
    return json.dumps(found)


def with_filter(bootstrap: str, filter: Mapping[str, Any]) -> str:
    """Envoy's configuration with one more HTTP filter on the clients' listener, where ours that authenticate would be."""
    found = json.loads(bootstrap)
    for listener in found["staticResources"]["listeners"]:
        if listener["name"] == LISTENER:
            manager = listener["filterChains"][0]["filters"][0]["typedConfig"]
            names = [item["name"] for item in manager["httpFilters"]]
            manager["httpFilters"].insert(names.index("mcp_origin") + 1, filter)
    return json.dumps(found)


_NEEDED = ("envoy.filters.http.buffer", "envoy.filters.http.ext_proc", "mcp_length", "envoy.filters.http.router")
"""Of the endpoint's filters, those without which no call is forwarded."""


def with_bare_filters(bootstrap: str) -> str:
    """Envoy's configuration without what calls that succeed do not need: no CORS, no errors of servers in JSON-RPC, no repair
    of sessions."""
    found = json.loads(bootstrap)
    for value in _objects(found):
        if "httpFilters" in value:
            value["httpFilters"] = [each for each in value["httpFilters"] if each["name"] in _NEEDED]
            if not value["httpFilters"]:
                del value["httpFilters"]
        for name in set(value.get("typedPerFilterConfig", ())) - set(_NEEDED):
            del value["typedPerFilterConfig"][name]
        value.pop("retryPolicy", None)
    return json.dumps(found)


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = [*value.values()]
    if isinstance(value, list):
        for each in value:
            yield from _objects(each)


def _places_of_keys(value: Any) -> Iterator[dict[str, Any]]:
    return (each for each in _objects(value) if str(each.get("@type", "")).endswith(".ApiKeyAuthPerRoute"))


def with_bridge(serving: Child) -> dict[str, Measured]:
    """What a `serve` for stdio servers consists of. Its supervisor, which does nothing during calls, is part of the worker."""
    return {
        "worker": Part(serving, _without_bridge),
        "bridge": Part(serving, lambda pids: _bridge(pids)[:1]),
        SERVER: Part(serving, lambda pids: _bridge(pids)[1:]),
    }


def _bridge(pids: Iterable[int]) -> tuple[int, ...]:
    """The bridge and its children, or nothing while there is none."""
    return _family_of(b"bridge-process", pids)


def _without_bridge(pids: Iterable[int]) -> tuple[int, ...]:
    return _without(_bridge(pids), pids)


def _collector(pids: Iterable[int]) -> tuple[int, ...]:
    return _family_of(b"collector-process", pids)


def _family_of(command: bytes, pids: Iterable[int]) -> tuple[int, ...]:
    return next((family(pid) for pid in pids if command in command_of(pid)), ())


def _without(others: Iterable[int], pids: Iterable[int]) -> tuple[int, ...]:
    left_out = set(others)
    return tuple(pid for pid in pids if pid not in left_out)
