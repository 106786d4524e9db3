"""``mcp-extproc check``: real servers, asked through a real Envoy."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.policy_services import Callers, Verdict
from tests.support.processes import ROOT, free_port, http_server, sdk_server
from tests.support.run_command import announced, finished, running, write
from tests.support.scripted import ScriptedServer, tool
from tests.support.tls import Authority


async def check(file: Path, *options: str) -> tuple[int, str, str]:
    """Exit code and output."""

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mcp_extproc", "check", str(file), *options,
        cwd=ROOT, env={**os.environ, "COLUMNS": "160"}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(90):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_nothing_is_wrong(tmp_path: Path) -> None:
    port = free_port()
    file = write(tmp_path, {"mcpServers": {"first": {"url": f"http://localhost:{port}/mcp"}}})
    async with http_server(sdk_server("first", port), port, log=tmp_path / "first.log"):
        code, out, err = await check(file)
        assert (code, err) == (0, "")
        header, row, end = out.splitlines()
        assert header.split() == ["server", "state", "protocol", "tools", "prompts", "resources", "prefix"]
        assert row.split() == ["first", "fine", "2025-11-25", "4", "0", "0", "first__"]
        assert end == "nothing is wrong"
        code, out, err = await check(file, "--json")
        assert code == 0
        assert json.loads(out) == {
            "valid": True, "warnings": [], "problems": [], "virtual_servers": [], "notes": [],
            "servers": [{"name": "first", "address": f"localhost:{port}", "prefix": "first", "version": "2025-11-25",
                         "state": "ready", "tools": 4, "tools_offered": 4, "prompts": 0, "resources": 0}],
        }  # fmt: skip


async def test_what_is_wrong(tmp_path: Path, alpha: ScriptedServer, beta: ScriptedServer) -> None:
    """Every server is asked, and its session ended."""
    alpha.pages = [[tool("a" * 70), tool("b")], [tool("[red]c.d")]]
    dead = free_port()
    client = {"token_endpoint": f"http://127.0.0.1:{dead}/token", "client_id": "me", "client_secret": "x"}
    file = write(tmp_path, {"servers": {
        "alpha": {"url": alpha.url},
        "beta": {"url": beta.url, "tools": {"include": ["echo", "ecco"]}},
        "gone": {"url": f"http://127.0.0.1:{dead}/mcp"},
        "tokenless": {"url": beta.url, "credentials": {"client_credentials": client}},
    }}, "gateway.yaml")  # fmt: skip
    code, out, _ = await check(file)
    assert code == 1
    assert "[red]c.d" in out, "what a server says is no markup"
    assert out.splitlines()[-1] == "5 problems"
    code, out, _ = await check(file, "--json")
    assert code == 1
    problems = json.loads(out)["problems"]
    assert sorted((problem["kind"], problem["server"]) for problem in problems) == [
        ("filter_matches_nothing", "beta"),
        ("name_characters", "alpha"),
        ("name_too_long", "alpha"),
        ("unreachable", "gone"),
        ("unreachable", "tokenless"),
    ]
    unreachable, tokenless = (problem["text"] for problem in problems if problem["kind"] == "unreachable")
    assert tokenless.endswith("and tries again each second: nothing listens there")
    assert unreachable == f"127.0.0.1:{dead} is unreachable (UpstreamConnectionFailure): nothing listens there"
    assert alpha.sessions == beta.sessions == set()


async def test_rules_and_policies_about_nothing(tmp_path: Path, alpha: ScriptedServer) -> None:
    """One misspelling is enough, and the rule protects nothing."""
    alpha.pages = [[tool("delete"), tool("create")]]
    content = {
        "servers": {"alpha": {"url": alpha.url}},
        "authorization": {"default": "allow", "rules": [{"action": "deny", "tools": ["TOOL"]}]},
        "envoy": {"http_filters": [{"name": "rbac", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "DENY", "policies": {"no-deletes": {"principals": [{"any": True}], "permissions": [
                {"metadata": {"filter": "mcp_proxy", "path": [{"key": "tool"}], "value": {"string_match": {"exact": "TOOL"}}}}
            ]}}},
        }}]},
    }  # fmt: skip
    for name, kinds in (("delete", []), ("delet", ["rule_matches_nothing", "policy_matches_nothing"])):
        written = json.loads(json.dumps(content).replace("TOOL", name))
        code, out, _ = await check(write(tmp_path, written, "gateway.yaml"), "--json")
        assert (code, [problem["kind"] for problem in json.loads(out)["problems"]]) == (int(bool(kinds)), kinds), out


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ({}, "its certificate is not trusted: set `tls.ca` to the file of its CA"),
        ({"ca": "{ca}", "sni": "elsewhere.example"}, "its certificate is for another name"),
        ({"ca": "{ca}"}, None),
    ],
    ids=["unknown authority", "another name", "right"],
)
async def test_tls_is_what_will_be_used(
    tmp_path: Path, alpha: ScriptedServer, tls: dict[str, str], expected: str | None
) -> None:
    authority = Authority(tmp_path / "certificates")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate("server"), authority.key("server"))
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", alpha._serve)
    runner, port = web.AppRunner(application), free_port()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    section: dict[str, Any] = {"url": f"https://127.0.0.1:{port}/mcp"}
    if tls:
        section["tls"] = {key: value.format(ca=authority.ca) for key, value in tls.items()}
    code, out, _ = await check(write(tmp_path, {"servers": {"alpha": section}}, "gateway.yaml"), "--json")
    await runner.cleanup()
    problems = json.loads(out)["problems"]
    if expected is None:
        assert (code, problems) == (0, [])
    else:
        assert code == 1
        assert expected in problems[0]["text"]


@pytest.mark.parametrize("over", ["grpc", "http"])
async def test_a_service_that_says_who_calls(tmp_path: Path, alpha: ScriptedServer, over: str) -> None:
    """It is asked as it will be. What it says of somebody without credentials is no problem."""
    authority = Authority(tmp_path / "certificates")
    async with (
        Callers(lambda _: Verdict(401), authority=authority).serving() as there,
        Callers(lambda _: Verdict(500)).serving() as broken,
    ):
        dead = free_port()
        ports = {"there": there, "broken": broken}
        where = {name: f"127.0.0.1:{one.grpc_port if over == 'grpc' else one.http_port}" for name, one in ports.items()}
        plain = "" if over == "grpc" else "http://"
        # An HTTP service that answers with an error, and a gRPC service that is another one.
        wrong = where["broken"] if over == "http" else f"127.0.0.1:{alpha.port}"
        for external, problem in (
            ({over: f"https://{where['there']}", "ca": str(authority.ca)}, None),
            ({over: f"https://{where['there']}"}, "its certificate is not trusted: set `ca` to the file of its CA"),
            ({over: f"{plain}127.0.0.1:{dead}"}, "nothing listens there"),
            ({over: f"{plain}{wrong}"}, "its answer is an error" if over == "http" else "it answers no requests to"),
        ):
            # Whatever the machine is busy with.
            authentication = {"external": {**external, "principal_header": "x-user", "timeout": "20s"}}
            content = {"servers": {"alpha": {"url": alpha.url}}, "authentication": authentication}
            code, out, _ = await check(write(tmp_path, content, "gateway.yaml"), "--json")
            told = json.loads(out)["problems"]
            assert (code, len(told)) == ((0, 0) if problem is None else (1, 1)), out
            if problem is not None:
                assert (told[0]["kind"], told[0]["server"]) == ("authentication_unavailable", None)
                assert told[0]["text"].startswith(
                    f"authentication.external: {external[over]} can't be asked: {problem}"
                )
        [(path, headers)] = there.asked
        assert path == "/mcp"
        assert "authorization" not in headers


async def test_a_file_that_is_wrong(tmp_path: Path) -> None:
    file = write(tmp_path, {"servers": {"alpha": {"uri": "x"}}}, "gateway.yaml")
    code, _, err = await check(file)
    assert code == 2
    assert "servers.alpha.uri" in err
    code, out, _ = await check(file, "--json")
    assert code == 2
    assert json.loads(out)["valid"] is False


async def test_files_of_keys_and_what_envoy_rejects(tmp_path: Path, alpha: ScriptedServer) -> None:
    keys, key_set = tmp_path / "keys.yaml", tmp_path / "jwks.json"
    keys.write_text("alice: hush\n")
    key_set.write_text("{}")
    rbac = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
    rules = {"policies": {"p": {"permissions": [], "principals": [{"any": True}]}}}
    issuer = {"issuer": "https://idp.example", "audiences": ["a"], "jwks": {"file": str(key_set)}}
    file = write(tmp_path, {
        "servers": {"alpha": {"url": alpha.url}},
        "authentication": {"api_keys": {"file": str(keys)}, "oauth": {"issuers": [issuer]}},
        "envoy": {"http_filters": [{"name": "rbac", "typed_config": {"@type": rbac, "rules": rules}}]},
    }, "gateway.yaml")  # fmt: skip
    code, out, _ = await check(file, "--json")
    assert code == 1
    assert "hush" not in out
    kinds, texts = zip(*((one["kind"], one["text"]) for one in json.loads(out)["problems"]), strict=True)
    assert kinds == ("file_unusable", "file_unusable", "envoy_rejects")
    assert texts[0].startswith("authentication.oauth.issuers[0].jwks.file: the key set has no list")
    assert texts[1].startswith("authentication.api_keys.file: entry 1: expected a key")
    assert texts[2].startswith("Envoy rejects the configuration: Proto constraint validation failed (")


async def test_where_audit_and_telemetry_go(tmp_path: Path, alpha: ScriptedServer) -> None:
    """What `run` would refuse is a problem, and a receiver that may come a remark."""
    content = {
        "servers": {"alpha": {"url": alpha.url}},
        "telemetry": {"traces": {"endpoint": f"http://127.0.0.1:{free_port()}", "protocol": "http/protobuf"}},
    }
    file = write(tmp_path, content, "gateway.yaml")
    code, out, _ = await check(file)
    assert (code, out.splitlines()[-1]) == (0, "no problems, 1 remark")
    assert "otlp_unreachable  telemetry.traces: 127.0.0.1:" in out
    code, out, _ = await check(
        write(tmp_path, {**content, "audit": {"file": "no/audit.jsonl"}}, "gateway.yaml"), "--json"
    )
    assert (code, [problem["kind"] for problem in json.loads(out)["problems"]]) == (1, ["audit_unwritable"])


async def test_stdio_servers_that_fail(tmp_path: Path) -> None:
    """Each with its own reason, in our words and not as an answer of the server; standard error has no log for programs."""
    server = [str(ROOT / "tests" / "support" / "stdio_server.py"), "exit", "3"]
    file = write(tmp_path, {"mcpServers": {
        "dead": {"command": sys.executable, "args": ["-S", "-E", *server]},
        "missing": {"command": "nonsense"},
        "elsewhere": {"command": "/no/such"},
        "line": {"command": "npx -y @scope/pkg --token hush"},
    }})  # fmt: skip
    code, out, err = await check(file)
    assert (code, err) == (1, "")
    assert f"unreachable  dead: {sys.executable} ended with exit code 3: cannot start 3" in out
    assert "unreachable  missing: nonsense can't be started: the command nonsense was not found: install it" in out
    assert (
        "unreachable  line: npx -y @scope/pkg --token [redacted] can't be started: the command is a whole command line: write "
        '"command": "npx", "args": ["-y", "@scope/pkg", "--token", "[redacted]"]' in out
    )
    assert "unreachable  elsewhere: /no/such can't be started: there is no such program: correct `command`\n" in out
    assert "-32603" not in out
    assert "started again" not in out


async def test_run_checks_first_where_it_is_told_to(tmp_path: Path, alpha: ScriptedServer) -> None:
    file = write(tmp_path, {"servers": {"alpha": {"url": alpha.url, "tools": {"exclude": ["x"]}}}}, "gateway.yaml")
    code, out, err = await finished(file, "--port", "0", "--check")
    assert code == 1
    assert "filter_matches_nothing" in err
    assert "Workers" not in out
    file = write(tmp_path, {"servers": {"alpha": {"url": alpha.url}}}, "gateway.yaml")
    async with running(file, "--port", "0", "--check", "--json") as process:
        assert (await announced(process))["servers"][0]["problem"] is None
