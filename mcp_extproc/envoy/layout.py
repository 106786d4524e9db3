"""Names and addresses shared by Envoy's configuration and the gateway."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mcp_extproc.address import Address, PipeAddress, UnixAddress, worker_addresses
from mcp_extproc.contract import MARKER_NAMESPACE as MARKER_NAMESPACE

LISTENER = "mcp"
UPSTREAMS_LISTENER = "mcp_upstreams"
REPAIR_LISTENER = "mcp_repair"
BATCHES_LISTENER = "mcp_batches"
QUESTIONS_LISTENER = "mcp_questions"
"""Of an Envoy for a check: each request to it is one about which the service that says who calls is asked."""
EXTPROC_CLUSTER = "mcp_extproc"

PRIVATE_LISTENERS = (UPSTREAMS_LISTENER, REPAIR_LISTENER, BATCHES_LISTENER)
"""The listeners that clients can't reach."""

OWN = "mcp/"
"""Prefix of the names of server clusters and most routes, and of the gateway's filters on an existing listener."""

MARKER_KEY = "endpoint"
"""Metadata of requests to the MCP endpoint on an existing listener, set by its first filter."""

ATTACHED = {MARKER_NAMESPACE: {"attached": True}}
"""Metadata of the gateway's clusters in an existing configuration, where an operator's clusters may have any name."""

SESSION_KEY = "x-mcp-session-key"
"""gRPC metadata of an exchange, by which Envoy selects the worker of a session."""

API_KEY_FILTER = "mcp_api_key_auth"
"""Filter whose configuration of a virtual host has the keys of clients."""

COLLECTOR_CLUSTER = "mcp_collector"
"""The process to which Envoy sends its records."""

KEYS_CLUSTER = "mcp_keys"
"""The supervisor's endpoint with issuers' keys and metadata."""

KEYS_HOST = "keys.mcp.internal"
"""Never resolved: what Envoy asks there for."""

ISSUER_CLUSTER = "mcp_issuer/"
"""Prefix of the clusters of issuers whose keys Envoy fetches by itself, followed by the issuer's index."""

EXTERNAL_CLUSTER = "mcp_external_authorization"
"""The service that says who calls."""

KEYS_PATH = "/keys/"
"""At that endpoint: keys, by :func:`issuer_key`."""

METADATA_PATH = "/oauth-authorization-server/"
"""An issuer's metadata, by the same."""

SECRETS_START = "mcp-secret-"
"""Start of the names of files with secrets that Envoy reads by SDS."""

STICKY_SESSION = "x-mcp-sticky-session"
"""On requests to servers with sticky sessions: the session's id as the gateway knows it, including the replica."""


def cluster_name(server: str) -> str:
    """The cluster of one MCP server, such as ``mcp/github``."""
    return f"mcp/{server}"


def token_cluster(server: str) -> str:
    """The cluster of the authorization server that has a server's tokens."""
    return f"mcp_token/{server}"


def issuer_key(issuer: str, algorithms: Sequence[str]) -> str:
    """An issuer in :data:`KEYS_PATH`: a new order of issuers gives none another one's keys. Two endpoints may accept different
    algorithms of one."""
    return hashlib.sha256(" ".join((issuer, *algorithms)).encode()).hexdigest()[:32]


def repair_host(server: str) -> str:
    """The host name of a server on the repair listener. It is never resolved, and clients never see it."""
    return f"{server}.mcp-repair.internal"


@dataclass(frozen=True, slots=True)
class ExtprocTls:
    """TLS between Envoy and the workers. The files are PEM, and Envoy reads them when it starts."""

    ca: str
    """CA of the workers' certificates."""
    certificate: str | None = None
    """Envoy's client certificate, for workers that require one."""
    key: str | None = None
    """Private key of the client certificate."""
    name: str | None = None
    """The name in the workers' certificates; by default, the host of their address."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The addresses at which Envoy and the workers communicate. Unix sockets by default: their traffic was already
    authorized."""

    extproc: tuple[Address, ...]
    """Addresses of the ext_proc workers, one for each."""
    upstreams: Address
    """Envoy's private listener for sub-requests."""
    repair: Address
    """Envoy's private listener for requests whose session a server lost."""
    batches: Address
    """Envoy's private listener for the messages of batches, with the same filters as the clients' listener."""
    bridge: Address
    """The gateway's own bridge, in front of HTTP+SSE and stdio servers."""
    keys: Address | None = None
    """The supervisor's endpoint with the keys of authorization servers, if a supervisor of ours keeps them."""
    collector: Address | PipeAddress | None = None
    """The process that Envoy's records are sent to, if a supervisor of ours keeps it and something is collected. By a pipe
    where that supervisor has Envoy, too: it has to be there before Envoy, and read while Envoy runs."""
    admin: Address | None = None
    """Envoy's admin interface, if any."""
    extproc_tls: ExtprocTls | None = None
    """TLS for workers at TCP addresses; plaintext by default."""
    bridge_elsewhere: Address | None = None
    """A bridge that somebody else runs, with the commands of stdio servers; by default the gateway's own has them."""
    secrets: Path | None = None
    """Folder of files with secrets of ours that Envoy reads, as it sees it; ``None`` where it reads none."""
    owns_listener: bool = True
    """Whether the clients' listener is rendered, too, and not one that others have, with filters of theirs."""
    takes_long_expressions: bool = False
    """Whether Envoy takes regular expressions of any length: by default one's program has 100 instructions at most."""

    @property
    def stdio_bridge(self) -> Address:
        """The bridge in front of stdio servers."""
        return self.bridge if self.bridge_elsewhere is None else self.bridge_elsewhere

    @property
    def shares_sessions(self) -> bool:
        """Whether there are several workers, so that sessions have to be routed to the right one."""
        return len(self.extproc) > 1

    @classmethod
    def in_directory(cls, directory: Path, workers: int = 1) -> Layout:
        """All sockets in one directory."""
        return cls(
            extproc=worker_addresses(str(directory), workers),
            upstreams=UnixAddress(str(directory / "upstreams.sock")),
            repair=UnixAddress(str(directory / "repair.sock")),
            batches=UnixAddress(str(directory / "batches.sock")),
            bridge=UnixAddress(str(directory / "bridge.sock")),
            keys=UnixAddress(str(directory / "keys.sock")),
            collector=UnixAddress(str(directory / "collector.sock")),
            admin=UnixAddress(str(directory / "admin.sock")),
        )
