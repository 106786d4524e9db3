"""What Envoy counts anyway, read from its admin interface: requests, durations, circuit breakers, and replicas' health.

What it does not say is not there: nothing is taken for zero. Source: Envoy's documentation, operations/admin (`/stats`,
`/clusters`, `/runtime_modify`) and configuration/upstream/cluster_manager/cluster_stats.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import msgspec

from mcp_extproc.address import TcpAddress
from mcp_extproc.contract import WATCHED_KEY

SECONDS: Final = 2.0
"""For an answer."""

_STATS: Final = (
    r"^cluster\.mcp/[^.]+\.(upstream_rq_(total|active|timeout|time|retry|2xx|4xx|5xx)|upstream_cx_(active|connect_fail)"
    r"|membership_(total|healthy)|outlier_detection\.ejections_active"
    r"|circuit_breakers\.default\.(cx|cx_pool|rq|rq_pending|rq_retry)_open)$"
    r"|^http\.mcp\.(downstream_(rq|cx)_(active|total)|rbac\..*denied|jwt_authn\.denied|ext_authz\.denied)$"
    r"|rate_limited$|^cluster\..*\.ratelimit\.over_limit$|^server\.uptime$|^runtime\.admin_overrides_active$"
)

_CLUSTER: Final = re.compile(r"cluster\.(mcp/[^.]+)\.(.+)")
_BREAKER: Final = re.compile(r"circuit_breakers\.default\.(\w+)_open")

_DENIALS: Final = (
    (re.compile(r"http\.mcp\.rbac\.(?:.*\.)?denied"), "rbac"),
    (re.compile(r"http\.mcp\.jwt_authn\.denied"), "jwt_authn"),
    (re.compile(r"http\.mcp\.ext_authz\.denied"), "ext_authz"),
    (re.compile(r".*(?:rate_limited|ratelimit\.over_limit)"), "rate_limit"),
)


class Numbers:
    """The admin interface of the Envoy that sends records.

    Args:
        admin: path of its socket.
    """

    def __init__(self, admin: str) -> None:
        self._admin = admin
        self._http: aiohttp.ClientSession | None = None

    async def read(self) -> dict[str, Any] | None:
        """What it counts; ``None`` where it does not answer."""
        stats, clusters = await asyncio.gather(
            self._ask("GET", f"/stats?format=json&filter={quote(_STATS)}"), self._ask("GET", "/clusters?format=json")
        )
        if stats is None or clusters is None:
            return None
        try:
            return {**numbers(msgspec.json.decode(stats)), "hosts": hosts(msgspec.json.decode(clusters))}
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
            return None

    async def watch(self, *, on: bool) -> bool:
        """Have it send a record of each request, or none. Returns whether it does."""
        return await self._ask("POST", f"/runtime_modify?{WATCHED_KEY}={100 if on else ''}") is not None

    async def close(self) -> None:
        """Ask no more."""
        if self._http is not None:
            await self._http.close()

    async def _ask(self, method: str, path: str) -> bytes | None:
        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=SECONDS)
            self._http = aiohttp.ClientSession(connector=aiohttp.UnixConnector(self._admin), timeout=timeout)
        try:
            async with self._http.request(method, f"http://envoy{path}") as response:
                return await response.read() if response.status == 200 else None
        except (TimeoutError, aiohttp.ClientError, OSError):
            return None


def numbers(data: Mapping[str, Any]) -> dict[str, Any]:
    """Of the answer to ``/stats?format=json``: by server's cluster, of the listener for clients, and denials by filter."""
    clusters: dict[str, dict[str, Any]] = {}
    listener: dict[str, int] = {}
    denied: dict[str, int] = {}
    found: dict[str, Any] = {"clusters": clusters, "listener": listener, "denied": denied}
    for one in data["stats"]:
        if "histograms" in one:
            for name, values in _quantiles(one["histograms"]):
                if (match := _CLUSTER.fullmatch(name)) is not None:
                    clusters.setdefault(match[1], {"open": []})["time"] = values
            continue
        name, value = one["name"], one["value"]
        if (match := _CLUSTER.fullmatch(name)) is not None:
            _note(clusters.setdefault(match[1], {"open": []}), match[2], value)
        elif (filter := next((word for pattern, word in _DENIALS if pattern.fullmatch(name)), None)) is not None:
            denied[filter] = denied.get(filter, 0) + value
        elif name.startswith("http.mcp."):
            listener[name.removeprefix("http.mcp.downstream_")] = value
        elif name == "runtime.admin_overrides_active":
            found["watches"] = value > 0
        else:
            found["uptime"] = value
    return found


def _note(cluster: dict[str, Any], name: str, value: int) -> None:
    if (breaker := _BREAKER.fullmatch(name)) is not None:
        if value:
            cluster["open"].append(breaker[1])
        return
    cluster[name.removeprefix("upstream_").replace(".", "_")] = value


def _quantiles(histograms: Mapping[str, Any]) -> Iterable[tuple[str, dict[str, float]]]:
    """The median, and so on, since Envoy's start."""
    wanted = {50.0: "p50", 95.0: "p95", 99.0: "p99"}
    supported = histograms["supported_quantiles"]
    for one in histograms["computed_quantiles"]:
        values = {
            wanted[quantile]: value["cumulative"]
            for quantile, value in zip(supported, one["values"], strict=False)
            if quantile in wanted and value["cumulative"] is not None
        }
        if values:
            yield one["name"], values


def hosts(data: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Of the answer to ``/clusters?format=json``: replicas by server's cluster, and what is wrong with them."""
    found = {}
    for cluster in data.get("cluster_statuses", []):
        if cluster["name"].startswith("mcp/"):
            found[cluster["name"]] = [
                {"address": _address(host["address"]), "problems": _problems(host.get("health_status", {}))}
                for host in cluster.get("host_statuses", [])
            ]
    return found


def _address(address: Mapping[str, Any]) -> str:
    socket = address.get("socket_address")
    if socket is None:
        return "unix"
    return str(TcpAddress(socket["address"], socket["port_value"]))


_PROBLEMS: Final = {
    "failed_active_health_check": "fails its health check",
    "failed_outlier_check": "ejected: it failed too often",
    "failed_active_degraded_check": "degraded",
    "pending_dynamic_removal": "about to be removed",
    "pending_active_hc": "not checked yet",
    "active_hc_timeout": "its health check times out",
}


def _problems(health: Mapping[str, Any]) -> list[str]:
    return [text for key, text in _PROBLEMS.items() if health.get(key)]
