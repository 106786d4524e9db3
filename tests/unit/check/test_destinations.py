"""What ``check`` says of where audit and telemetry go."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.check.destinations import notes, problems
from mcp_extproc.config import GatewayConfig


def config(**sections: Any) -> GatewayConfig:
    return GatewayConfig.model_validate({"servers": {"a": {"url": "http://localhost/a"}}, **sections})


async def noted(environ: dict[str, str] | None = None, **sections: Any) -> list[tuple[str, str]]:
    return [(note.kind, note.text) for note in await notes(config(**sections), environ or {})]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_an_audit_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "elsewhere.jsonl")
    for file, why in (
        ("/proc/nope/audit.jsonl", "No such file or directory"),
        ("no/audit.jsonl", "No such file or directory"),
        ("folder.jsonl", "Not a regular file"),
        ("link.jsonl", "Not a regular file"),
    ):
        [problem] = problems(config(audit={"file": file}), tmp_path)
        assert problem.kind == "audit_unwritable"
        assert (
            problem.text
            == f"audit.file {tmp_path / file}: {why}. It is a file in a folder that exists and is writable."
        )
    assert problems(config(audit={"file": "audit.jsonl"}), tmp_path) == []
    assert not (tmp_path / "audit.jsonl").exists(), "it is not made"
    (tmp_path / "audit.jsonl").touch()
    assert problems(config(audit={"file": "audit.jsonl"}), tmp_path) == []


async def test_addresses_that_others_have() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        each: list[dict[str, Any]] = [
            {"telemetry": {"metrics": {"address": address}}},
            {"status": {"address": address}},
        ]
        for sections in each:
            [(kind, text)] = await noted(**sections)
            assert (kind, f"{address}: a process has it" in text) == ("address_unusable", True), text
        both: dict[str, Any] = {"telemetry": {"metrics": {"address": address}}, "status": {"address": address}}
        assert len(await noted(**both)) == 1
    assert await noted(telemetry={"metrics": {"address": address}}) == []
    assert await noted(status={"address": "127.0.0.1:0"}) == []
    [(_, text)] = await noted(telemetry={"metrics": {"address": "192.0.2.1:9464"}})
    assert text.endswith("choose an address of this machine")


async def test_receivers_that_are_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as there:
        url = f"http://127.0.0.1:{there.getsockname()[1]}"
        assert await noted(telemetry={"traces": {"endpoint": url}}, audit={"otlp": {"endpoint": url}}) == []
    told = await noted(telemetry={"traces": {"endpoint": url}}, audit={"otlp": {"endpoint": f"{url}/key"}})
    where = url.removeprefix("http://")
    assert told == [
        ("otlp_unreachable", f"telemetry.traces and audit.otlp: {where} can't be reached: nothing listens there")
    ]
    [(_, text)] = await noted(telemetry={"traces": {"endpoint": "http://collector.invalid:4317"}})
    assert text == "telemetry.traces: collector.invalid:4317 can't be reached: its host name has no address"
    [(_, text)] = await noted({"OTEL_EXPORTER_OTLP_ENDPOINT": url})
    assert text.startswith(f"telemetry.traces: {where}"), "variables count"


async def test_what_is_behind_a_proxy_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert await noted(telemetry={"traces": {"endpoint": "http://collector.invalid:4317"}}) == []


@pytest.mark.parametrize("host", ["collector..svc", "a" * 64 + ".example"])
async def test_a_host_that_is_no_name(host: str) -> None:
    told = await noted(telemetry={"traces": {"endpoint": f"http://{host}:4317"}})
    why = "can't be reached: its host is no name that can have an address"
    assert told == [("otlp_unreachable", f"telemetry.traces: {host}:4317 {why}")]
