"""A Docker engine and the project's Compose file, by their command lines."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT, free_port
from tests.support.waiting import eventually

LOCAL_DOCKER = ROOT.parent / "shared" / "tools" / "local-docker"
"""Brings an engine and the base images to a machine without a container registry, where that is part of it."""

BASE = "python:3.11-slim-bookworm"
ENVOY = "envoyproxy/envoy:v1.40.0"
GATEWAY = "mcp-extproc:test"
BRIDGE = "mcp-extproc-bridge:test"
SAMPLES = "mcp-extproc-samples:test"
"""Names of their own, so that a user's images stay as they are. They are kept: the next run builds only what changed."""

NODE = "mcp-extproc-node:test"
"""What the bridge's Node.js is taken from on a machine without a container registry."""

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
"""Of the base image, which such a machine has its own ones in. Node.js has to be told."""

COMMAND_SECONDS = 900.0
"""For one command, the longest being a build that downloads everything."""

START_SECONDS = 60.0
"""For Envoy to listen, and for a service to say something."""


class NoEngine(Exception):
    """No containers can be run here. ``str()`` says why."""


def run(*command: str, environment: Mapping[str, str] | None = None, check: bool = True) -> str:
    """What a command prints.

    Raises:
        AssertionError: it failed, and that was to be checked.
    """
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    if check:
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-10_000:]}\n{done.stderr[-10_000:]}"
    return done.stdout


def _works(*command: str) -> bool:
    return (
        shutil.which(command[0]) is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


def engine() -> None:
    """See to it that an engine answers.

    Raises:
        NoEngine: none does, and none can be started.
    """
    has_engine = _works("docker", "info")
    if LOCAL_DOCKER.exists() and not (
        has_engine and all(_works("docker", "image", "inspect", i) for i in (BASE, ENVOY))
    ):
        print(f"\n{LOCAL_DOCKER} up", flush=True)
        started = subprocess.run([LOCAL_DOCKER, "up"], stdin=subprocess.DEVNULL, timeout=COMMAND_SECONDS, check=False)
        if started.returncode != 0:
            raise NoEngine(f"{LOCAL_DOCKER} up failed with exit code {started.returncode}, see above")
        has_engine = _works("docker", "info")
    if not has_engine:
        raise NoEngine("`docker info` finds no Docker engine: install and start one, or join the group docker")
    compose_command()


def require_engine() -> None:
    """Skip the test where no engine can be had; in CI it fails."""
    try:
        engine()
    except NoEngine as why:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"NOTHING WAS TESTED, because no container can be run here. {why}")


def require_node() -> None:
    """See to it that there is an image with Node.js to build the bridge's from."""
    if LOCAL_DOCKER.exists() and not _works("docker", "image", "inspect", NODE):
        file = ROOT / "tests" / "compose" / "node.Dockerfile"
        run("docker", "build", "--quiet", "--network", "host", "--tag", NODE, "--build-arg", f"BASE={BASE}",
            "--file", str(file), str(file.parent), environment=_of_this_machine())  # fmt: skip


def compose_command() -> tuple[str, ...]:
    """Compose 2 where it is there, else docker-compose.

    Raises:
        NoEngine: neither is installed.
    """
    for command in (("docker", "compose"), ("docker-compose",)):
        if _works(*command, "version"):
            return command
    raise NoEngine("neither `docker compose` nor `docker-compose` is installed")


class Stack:
    """What ``docker compose up`` starts, under a project name of its own and at a free port.

    Args:
        env_file: of an optional part.
        mounted: a copy of the folder ``compose`` for the gateway, so that a test may change what is in it.
    """

    def __init__(self, env_file: str | None = None, mounted: Path | None = None) -> None:
        self.project = f"mcp-extproc-test-{os.getpid()}"
        self.port = free_port()
        self._containers: dict[str, str] = {}
        self._command = (
            *compose_command(),
            *(("--env-file", env_file) if env_file else ()),
            *(("--file", "docker-compose.yaml", "--file", str(_override(mounted))) if mounted else ()),
            "--project-name",
            self.project,
        )
        self._environment = {
            "MCP_PORT": str(self.port),
            "GATEWAY_IMAGE": GATEWAY,
            "BRIDGE_IMAGE": BRIDGE,
            "SAMPLES_IMAGE": SAMPLES,
            **_of_this_machine(),
        }

    @property
    def url(self) -> str:
        """The MCP endpoint."""
        return f"http://localhost:{self.port}/mcp"

    def compose(self, *arguments: str, check: bool = True) -> str:
        """Run a Compose command on this project."""
        return run(*self._command, *arguments, environment=self._environment, check=check)

    def container(self, service: str) -> str:
        """The id of a service's container. It stays when the container is started again."""
        if service not in self._containers:
            [self._containers[service]] = self.compose("ps", "--quiet", service).split()
        return self._containers[service]

    def inspect(self, service: str) -> dict[str, Any]:
        """All that the engine knows of a service's container."""
        [found] = json.loads(run("docker", "inspect", self.container(service)))
        assert isinstance(found, dict)
        return found

    def execute(self, service: str, *command: str, root: bool = False, check: bool = True) -> str:
        """Run a command in a service's container."""
        user = ("--user", "0") if root else ()
        return run("docker", "exec", *user, self.container(service), *command, check=check)

    def kill(self, service: str) -> None:
        """Kill the main process of a service, as a crash or the kernel's want of memory would.

        ``docker kill`` would not do: the engine takes that for the user's wish, and does not start the container again. From
        inside, the kernel keeps the signal from a container's first process.
        """
        pid = str(self.inspect(service)["State"]["Pid"])
        kill = "import os, sys; os.kill(int(sys.argv[1]), 9)"
        run("docker", "run", "--rm", "--pid", "host", "--network", "none", "--user", "0", "--entrypoint", "python",
            GATEWAY, "-c", kill, pid)  # fmt: skip

    def left(self) -> dict[str, list[str]]:
        """What there is of this project."""
        label = f"label=com.docker.compose.project={self.project}"
        lists = {"containers": ("ps", "--all"), "networks": ("network", "ls"), "volumes": ("volume", "ls")}
        return {what: run("docker", *ls, "--quiet", "--filter", label).split() for what, ls in lists.items()}


def _override(mounted: Path) -> Path:
    """A second Compose file, by which the gateway and the bridge get another folder."""
    file = mounted.with_suffix(".override.yaml")
    folder = {"volumes": [f"{mounted}:/etc/mcp-extproc:ro"]}
    bridge = {**folder, "environment": {"NODE_EXTRA_CA_CERTS": CERTIFICATES}}
    file.write_text(json.dumps({"services": {"gateway": folder, "bridge": bridge}}))
    return file


def _of_this_machine() -> dict[str, str]:
    """Without a registry the builds need the machine's own network, and the builder that has it."""
    if not LOCAL_DOCKER.exists():
        return {}
    return {"BUILD_NETWORK": "host", "DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0", "NODE": NODE}


@contextmanager
def running(env_file: str | None = None, mounted: Path | None = None) -> Iterator[Stack]:
    """A stack that serves. It is taken down with all that belongs to it, whatever happened."""
    stack = Stack(env_file, mounted)
    try:
        # docker-compose 1.29 would take an image of an earlier run as it is.
        stack.compose("up", "--detach", "--build")
        _until_it_answers(stack.port)
        yield stack
    except BaseException:
        print(stack.compose("logs", "--no-color", "--tail", "100", check=False))
        raise
    finally:
        take_down(stack)


def _until_it_answers(port: int) -> None:
    """``up`` is done when Envoy's process has started; Docker accepts connections before Envoy does, and breaks them."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
        try:
            connection.request("GET", "/")
            connection.getresponse()
            return
        except (OSError, http.client.HTTPException):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        finally:
            connection.close()


async def until_logged(stack: Stack, service: str, text: str) -> None:
    """Wait until a service's log has this text."""
    await eventually(
        lambda: asyncio.to_thread(stack.compose, "logs", "--no-color", service),
        f"{service} says {text!r}",
        until=lambda log: text in log,
        seconds=START_SECONDS,
    )


def take_down(stack: Stack) -> None:
    """End a stack, and remove what it had."""
    stack.compose("down", "--volumes", "--remove-orphans", "--timeout", "15")


def image_bytes(*names: str) -> Sequence[int]:
    """The sizes of images."""
    for name in names:
        if not _works("docker", "image", "inspect", name):
            run("docker", "pull", name)  # BuildKit keeps what it builds on to itself
    return [int(run("docker", "image", "inspect", "--format", "{{.Size}}", name)) for name in names]
