"""The dashboard's queries and the alert rules, in a real Prometheus that scrapes a real gateway (Debian: prometheus)."""

from __future__ import annotations

import math
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import run
from typing import Any

import aiohttp
import pytest
import yaml

from tests.support.debian import program
from tests.support.gateway import TestClient, TestGateway, gateway
from tests.support.otlp_receiver import over_http
from tests.support.processes import ROOT, free_port, http_server
from tests.support.queries import RULES, Query, of_alerts, of_dashboard, of_docs
from tests.support.scripted import ScriptedServer, tool
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(600)  # it may have to be downloaded

RARE = ("_repairs_", "_token_exchange_", "_expired_")
"""Of metrics that there are after sessions have been lost or have expired, or where tokens are exchanged."""

CASES = ROOT / "tests" / "peers" / "alerts.test.yaml"


def promtool(*words: str | Path, folder: Path, text: str = "") -> None:
    command = [program("promtool", "prometheus"), *words]
    done = run(command, cwd=folder, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    for file in (RULES, CASES):
        shutil.copy(file, tmp_path)
    promtool("check", "rules", RULES.name, folder=tmp_path)
    promtool("test", "rules", CASES.name, folder=tmp_path)


class Prometheus:
    """A running one."""

    def __init__(self, port: int, http: aiohttp.ClientSession) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"
        self._http = http

    async def get(self, path: str, **parameters: str) -> Any:
        async with self._http.get(f"{self._url}/{path}", params=parameters) as response:
            answer = await response.json()
        assert answer["status"] == "success", answer
        return answer["data"]

    async def query(self, promql: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series, but for those without one."""
        found = (await self.get("query", query=promql))["result"]
        values = [(series["metric"], float(series["value"][1])) for series in found]
        return [(labels, value) for labels, value in values if not math.isnan(value)]


@asynccontextmanager
async def scraping(address: str, folder: Path) -> AsyncIterator[Prometheus]:
    file, port = folder / "prometheus.yml", free_port()
    jobs = [{"job_name": "mcp-extproc", "static_configs": [{"targets": [address]}]}]
    intervals = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    file.write_text(yaml.safe_dump({"global": intervals, "rule_files": [str(RULES)], "scrape_configs": jobs}))
    command = [
        program("prometheus", "prometheus"), f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", f"--web.console.libraries={folder}", f"--web.console.templates={folder}",
    ]  # fmt: skip
    async with http_server(command, port, log=folder / "prometheus.log"), aiohttp.ClientSession() as http:
        yield Prometheus(port, http)


async def traffic(client: TestGateway, beta: ScriptedServer) -> None:
    """Some of all that is counted, also calls to a server that is not there."""
    endpoint = TestClient(f"{client.url}/some", client.http)
    await endpoint.initialize()
    session = await client.initialize()
    for _ in range(2):
        await client.rpc("tools/list", mcp_session_id=session)
    await beta.stop()
    await client.rpc("tools/list", mcp_session_id=session)
    for name in ("alpha__echo", "alpha__echo", "alpha__secret", "beta__echo"):
        await client.call(session, name)
    await beta.restart()
    await client.send(None, method="DELETE", mcp_session_id=session)


@asynccontextmanager
async def everything_told(
    folder: Path, alpha: ScriptedServer, beta: ScriptedServer
) -> AsyncIterator[tuple[TestGateway, str]]:
    alpha.pages = [[tool("echo"), tool("secret")]]
    rules = [{"name": "no-secrets", "action": "deny", "tools": ["secret"]}, {"action": "allow"}]
    address = f"127.0.0.1:{free_port()}"
    async with over_http() as received:
        telemetry = {"metrics": {"address": address}, "traces": {"endpoint": received.url}}
        audit = {"file": str(folder / "audit.jsonl")}
        servers = {"alpha": alpha.url, "beta": beta.url}
        async with gateway(
            folder, servers, telemetry=telemetry, audit=audit, authorization={"rules": rules},
            rate_limits=[{"by": ["session", "tool"], "requests": 1, "per": "hour"}],
            virtual_servers={"some": {"servers": {"alpha": "all"}}},
        ) as client:  # fmt: skip
            yield client, address


async def test_every_panel_shows_something(tmp_path: Path) -> None:
    async with (
        ScriptedServer("alpha") as alpha,
        ScriptedServer("beta") as beta,
        everything_told(tmp_path, alpha, beta) as (client, address),
        scraping(address, tmp_path) as prometheus,
    ):
        await traffic(client, beta)
        # What is counted for the first time after Prometheus has looked grows from nothing, which no rate sees.
        await eventually(
            lambda: prometheus.query("mcp_server_session_duration_seconds_count"), "Prometheus has seen it"
        )
        await traffic(client, beta)
        for query in (*of_dashboard(), *of_docs()):
            if not any(word in query.promql for word in RARE):
                await _is_shown(prometheus, query)
        await eventually(lambda: prometheus.get("rules"), "the rules were judged", until=_are_judged)
        async with aiohttp.ClientSession() as http, http.get(f"http://{address}/metrics") as response:
            text = await response.text()
    ours = "".join(line for line in text.splitlines(keepends=True) if "mcp_server_" in line or "mcp_gateway_" in line)
    promtool("check", "metrics", folder=tmp_path, text=ours)


async def _is_shown(prometheus: Prometheus, query: Query) -> None:
    """What was lost may be nothing, and so may what is under way; all else has grown."""
    may_be_nothing = any(word in query.promql for word in ("_lost_", "_active", "_streams", "_restarts_"))
    found = await eventually(
        lambda: prometheus.query(query.promql),
        query.where,
        until=lambda seen: any(value > 0 for _, value in seen) or (seen and may_be_nothing),
    )
    for labels, _ in found:
        assert set(labels) <= query.shown | {"mcp_server", "gen_ai_tool_name"}, f"{query.where}: {labels}"
    assert query.shown <= {label for labels, _ in found for label in labels}, query.where


def _are_judged(found: Any) -> bool:
    rules = [rule for group in found["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == {query.where for query in of_alerts()}
    assert not [rule["lastError"] for rule in rules if rule.get("lastError")]
    return all(rule["health"] == "ok" for rule in rules)
