"""The MCP handshake before the calls, and a check of the tools that a system offers."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from bench.errors import BenchError

_VERSION = "2025-06-18"
"""Supported by all compared systems."""

_PATIENCE = 30.0
"""Seconds for a system to start."""

_PAUSE = 0.05

_Json = dict[str, Any]


class _NotReady(Exception):
    """The system does not respond yet, or reports that it is not ready."""


def open_session(
    port: int,
    tools: tuple[str, ...],
    check: Callable[[], None],
    credentials: Mapping[str, str] = MappingProxyType({}),
    *,
    has_sessions: bool = True,
) -> dict[str, str]:
    """Initializes a session as soon as the system responds.

    Args:
        port: the endpoint is http://127.0.0.1:port/mcp.
        tools: that the system must list, exactly.
        check: raises BenchError if one of the system's processes has ended.
        credentials: headers of all requests, which the result is without.
        has_sessions: whether the system must give a session id. Otherwise it must not.

    Returns: the headers of every later request.

    Raises BenchError if the system does not become ready or its MCP is not as expected.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            headers = _initialize(port, credentials, has_sessions=has_sessions)
            break
        except _NotReady as error:
            check()
            if time.monotonic() > deadline:
                raise BenchError(f"not ready after {_PATIENCE:.0f} s: {error}") from None
            time.sleep(_PAUSE)
    _notify_initialized(port, {**headers, **credentials})
    _check_tools(port, {**headers, **credentials}, tools)
    return headers


def close_session(port: int, headers: dict[str, str]) -> None:
    """Ends a session. Raises BenchError if it was none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request("DELETE", "/mcp", headers=headers)
        status = connection.getresponse().status
    finally:
        connection.close()
    if status != 204:
        raise BenchError(f"DELETE got status {status}")


def _initialize(port: int, credentials: Mapping[str, str], *, has_sessions: bool) -> dict[str, str]:
    params = {
        "protocolVersion": _VERSION,
        "capabilities": {},
        "clientInfo": {"name": "mcp-extproc bench", "version": "1"},
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    try:
        status, headers, body = _post(port, credentials, message)
    except OSError as error:
        raise _NotReady(str(error)) from None
    if status >= 500:
        raise _NotReady(f"status {status}: {body[:500]!r}")
    version = _result(status, body).get("protocolVersion")
    session = headers.get("mcp-session-id")
    if version != _VERSION or (session is not None) != has_sessions:
        expected = "an id" if has_sessions else "none"
        raise BenchError(
            f"initialize answered version {version} and session {session!r}; expected {_VERSION} and {expected}"
        )
    return {"mcp-protocol-version": version} | ({"mcp-session-id": session} if session is not None else {})


def _notify_initialized(port: int, headers: dict[str, str]) -> None:
    status, _, body = _post(port, headers, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    if status != 202:
        raise BenchError(f"notifications/initialized got status {status} instead of 202: {body[:500]!r}")


def _check_tools(port: int, headers: dict[str, str], tools: tuple[str, ...]) -> None:
    status, _, body = _post(port, headers, {"jsonrpc": "2.0", "id": 2, "method": "tools/list"})
    listed = {tool["name"] for tool in _result(status, body).get("tools", ())}
    if listed != set(tools):
        raise BenchError(f"tools/list named {sorted(listed)}; expected {sorted(tools)}")


def _post(port: int, headers: Mapping[str, str], message: _Json) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request(
            "POST",
            "/mcp",
            json.dumps(message),
            {"content-type": "application/json", "accept": "application/json, text/event-stream", **headers},
        )
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def _message(body: bytes) -> bytes:
    """JSON, also where it is the only event of a stream."""
    return next((line[5:] for line in body.splitlines() if line.startswith(b"data:")), body)


def _result(status: int, body: bytes) -> _Json:
    try:
        result: _Json = json.loads(_message(body))["result"]
    except (ValueError, KeyError, TypeError):
        raise BenchError(f"expected a JSON-RPC result, got status {status}: {body[:500]!r}") from None
    return result
