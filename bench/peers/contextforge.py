"""IBM's mcp-context-forge: a registry and gateway in Python (FastAPI), without Envoy."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import time
from pathlib import Path

from bench.children import Child
from bench.errors import BenchError
from bench.peers.peer import Peer, until, urls
from bench.peers.workshop import Workshop
from bench.systems import Running, Stage, free_port

_SECRET = "a secret for benchmarks, which is known to all"
_ADMIN = "admin@example.com"


class ContextForge(Peer):
    """One worker."""

    name = "contextforge"
    title = "IBM mcp-context-forge"
    version = "1.0.7"
    released = "2026-08-05"
    remark = (
        "Python, without Envoy. One uvicorn worker, SQLite, its cache in memory, no user interface, no rate limit, no "
        "authentication of clients; stateless and answering in JSON, as by default. It answers lists from its database."
    )
    patience = 120.0
    has_sessions = False
    remembers_lists = True

    def missing(self) -> str:
        """Nothing: this Python installs it."""
        return ""

    def built(self, workshop: Workshop) -> Path:
        """A virtual environment."""
        return workshop.built(self.name, self.version)

    def build(self, workshop: Workshop) -> None:
        """From PyPI."""
        workshop.build_python(self.name, f"mcp-contextforge-gateway=={self.version}")

    def named(self, server: str, tool: str) -> str:
        """A slug, as it makes of every name."""
        return f"{server}-{tool.replace('_', '-')}"

    def start(self, stage: Stage, built: Path) -> Running:
        """Starts it and registers the servers, as an administrator does."""
        port = free_port()
        folder = stage.directory / self.name
        folder.mkdir()
        serve = ["mcpgateway.main:app", "--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
        command: list[str | Path] = [built / "bin" / "uvicorn", *serve, "--log-level", "warning"]
        process = Child(self.name, command, stage.directory, environment=environment(folder))
        stage.children.enter_context(process)
        until(lambda: _status(port, "GET", "/health") == 200, process.check, self.patience)
        for name, url in urls(stage.servers, stage.upstream.sessions).items():
            server = {"name": name, "url": url, "transport": "STREAMABLEHTTP", "visibility": "public"}
            if (status := _status(port, "POST", "/gateways", server)) != 200:
                raise BenchError(f"registering the server {name} got status {status}")
        return Running(port, {"gateway": process})


def environment(folder: Path) -> dict[str, str]:
    """Its configuration.

    Args:
        folder: of its database.
    """
    return {
        "DATABASE_URL": f"sqlite:///{folder}/mcp.db",
        "CACHE_TYPE": "memory",
        "JWT_SECRET_KEY": _SECRET,
        "AUTH_ENCRYPTION_SECRET": _SECRET[::-1],
        "PLATFORM_ADMIN_EMAIL": _ADMIN,
        "MCP_REQUIRE_AUTH": "false",
        "SSRF_ALLOW_LOCALHOST": "true",
        "SSRF_ALLOW_PRIVATE_NETWORKS": "true",
        "RATE_LIMITING_ENABLED": "false",
        "TOOL_RATE_LIMIT": "1000000",
        "PLUGINS_ENABLED": "false",
        "LOG_LEVEL": "ERROR",
    }


def _status(port: int, method: str, path: str, body: object = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"content-type": "application/json", "authorization": f"Bearer {token(time.time())}"}
    try:
        connection.request(method, path, json.dumps(body), headers)
        return connection.getresponse().status
    finally:
        connection.close()


def token(now: float) -> str:
    """Its administrator's, for an hour (JWT, HS256)."""
    claims = {
        "sub": _ADMIN,
        "iss": "mcpgateway",
        "aud": "mcpgateway-api",
        "jti": "bench",
        "iat": int(now),
        "exp": int(now) + 3600,
        "is_admin": True,
        "teams": None,
        "user": {"email": _ADMIN, "is_admin": True, "auth_provider": "cli"},
    }
    signed = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
    digest = hmac.new(_SECRET.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_encoded(digest)}"


def _part(value: object) -> str:
    return _encoded(json.dumps(value).encode())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
