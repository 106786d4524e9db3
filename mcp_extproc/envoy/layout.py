"""Names and sockets that Envoy and the gateway agree on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mcp_extproc.address import Address, UnixAddress
from mcp_extproc.contract import MARKER_NAMESPACE as MARKER_NAMESPACE

LISTENER = "mcp"
UPSTREAMS_LISTENER = "mcp_upstreams"
REPAIR_LISTENER = "mcp_repair"
BATCHES_LISTENER = "mcp_batches"
EXTPROC_CLUSTER = "mcp_extproc"

PRIVATE_LISTENERS = (UPSTREAMS_LISTENER, REPAIR_LISTENER, BATCHES_LISTENER)
"""All but the one that clients reach."""

OWN = "mcp/"
"""Starts the names of our servers' clusters and of most routes, and of our filters on a listener that is not ours alone."""

MARKER_KEY = "endpoint"
"""Metadata of requests to the MCP endpoint on a listener that serves other things too, from its first filter on."""

ATTACHED = {MARKER_NAMESPACE: {"attached": True}}
"""Metadata of our clusters in a configuration that is not ours alone; an operator's may have any name."""

SESSION_KEY = "x-mcp-session-key"
"""gRPC metadata of an exchange: by it all requests of a client's session reach the same worker."""

STICKY_SESSION = "x-mcp-sticky-session"
"""On requests to servers with sticky sessions: the session's id as the gateway knows it, with its replica in it."""


def cluster_name(server: str) -> str:
    """The cluster of one MCP server, such as ``mcp/github``."""
    return f"mcp/{server}"


def repair_host(server: str) -> str:
    """The host name under which the repair listener finds a server. Never resolved, never seen by a client."""
    return f"{server}.mcp-repair.internal"


@dataclass(frozen=True, slots=True)
class ExtprocTls:
    """TLS between Envoy and the workers: files in PEM that Envoy reads when it starts."""

    ca: str
    """The authority of the workers' certificates."""
    certificate: str | None = None
    """Envoy's own, for workers that ask for one."""
    key: str | None = None
    """Its key."""
    name: str | None = None
    """Whom the workers' certificates are for; by default, the host of their address."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where Envoy and the worker meet. Unix sockets by default: what they carry was already authorized."""

    extproc: tuple[Address, ...]
    """The ext_proc workers listen here, each at its own."""
    upstreams: Address
    """Envoy's private listener for sub-requests."""
    repair: Address
    """Envoy's private listener for requests whose session a server lost."""
    batches: Address
    """Envoy's private listener for the messages of batches: it does all that the clients' listener does."""
    admin: Address | None = None
    """Envoy's admin interface, if any."""
    extproc_tls: ExtprocTls | None = None
    """For workers at TCP addresses; plain text by default."""

    @property
    def shares_sessions(self) -> bool:
        """Whether there are several workers, so that each session has to be led to one."""
        return len(self.extproc) > 1

    @classmethod
    def in_directory(cls, directory: Path, workers: int = 1) -> Layout:
        """All sockets in one directory."""
        return cls(
            extproc=tuple(UnixAddress(str(directory / f"extproc-{number}.sock")) for number in range(workers)),
            upstreams=UnixAddress(str(directory / "upstreams.sock")),
            repair=UnixAddress(str(directory / "repair.sock")),
            batches=UnixAddress(str(directory / "batches.sock")),
            admin=UnixAddress(str(directory / "admin.sock")),
        )


def default_directory() -> Path:
    """Where sockets live when nothing else is said: ``$XDG_RUNTIME_DIR/mcp-extproc``, or ``/tmp/mcp-extproc-UID``."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime, "mcp-extproc") if runtime else Path(f"/tmp/mcp-extproc-{os.getuid()}")  # noqa: S108 - made 0700 and checked
