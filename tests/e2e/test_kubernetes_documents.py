"""Files of Kubernetes documents, as those who come from Envoy AI Gateway start them."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import yaml
from cryptography import x509
from mcp.client.client import Client

from tests.support.gateway import TestClient, gateway_of
from tests.support.processes import free_port
from tests.support.run_command import RUN, announced, piped, running
from tests.support.scripted import ScriptedServer, tool
from tests.support.tls import Authority
from tests.support.waiting import eventually
from tests.unit.config.kubernetes.support import (
    backend,
    config_map,
    document,
    gateway,
    route,
    secret,
    text_of,
    to_backend,
)

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


def port_of(server: ScriptedServer) -> int:
    port = urlsplit(server.url).port
    assert port is not None
    return port


def at(server: ScriptedServer) -> list[dict[str, Any]]:
    """The endpoints of a Backend."""
    return [{"ip": {"address": "127.0.0.1", "port": port_of(server)}}]


async def test_a_route_with_a_selector_and_a_key(tmp_path: Path, alpha: ScriptedServer, beta: ScriptedServer) -> None:
    """Names, selectors and credentials are those of the documents, and a change of a file with a key is applied."""
    alpha.pages = [[tool("list_issues"), tool("delete_issue"), tool("whoami")]]
    key, file = tmp_path / "key", tmp_path / "mcp-route.yaml"
    key.write_text("from-a-file\n")
    credential = secret(apiKey="placeholder")
    credential["metadata"]["annotations"] = {"substitution.aigw.run/file/apiKey": str(key)}
    refs = [
        {
            "name": "alpha", "group": "gateway.envoyproxy.io", "kind": "Backend",
            "toolSelector": {"includeRegex": [".*_issues?"], "exclude": ["delete_issue"]},
            "securityPolicy": {"apiKey": {"secretRef": {"name": "s"}}},
        },
        {"name": "beta", "port": 80},
    ]  # fmt: skip
    file.write_text(
        text_of(route(path="/tools", backendRefs=refs), backend("alpha", endpoints=at(alpha)), credential, gateway())
    )
    resolve = f"beta.default=127.0.0.1:{port_of(beta)}"
    async with running(file, "--port", "0", "--json", "--resolve", resolve) as process:
        ready = await announced(process)
        assert ready["url"].endswith("/tools")
        async with Client(ready["url"]) as client:
            names = [one.name for one in (await client.list_tools()).tools]
            assert names[0] == "alpha__list_issues"
            assert all(name.startswith("beta__") for name in names[1:])
        assert {call.headers["authorization"] for call in alpha.calls("tools/list")} == {"Bearer from-a-file"}
        process.terminate()
        _, err = await process.communicate()
    assert process.returncode == 0
    assert b"from-a-file" not in err


def pair_of(authority: Authority, name: str) -> dict[str, str]:
    """As a Secret has it."""
    return {"tls.crt": authority.certificate(name).read_text(), "tls.key": authority.key(name).read_text()}


async def certificate_at(port: int, authority: Authority, name: str = "127.0.0.1") -> bytes:
    """What a new connection is shown that asks for a host name."""
    context = authority.client([])
    context.check_hostname = False
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    assert isinstance(shown, bytes)
    return shown


async def test_how_servers_and_clients_connect(tmp_path: Path, alpha: ScriptedServer, beta: ScriptedServer) -> None:
    """A Unix socket, a server that takes TLS 1.3 and clients with a certificate alone, and TLS to clients: the keys are in the
    file, and Envoy shows none."""
    authority = Authority(tmp_path / "authority")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.ca)
    context.load_cert_chain(authority.certificate("server"), authority.key("server"))
    context.verify_mode, context.minimum_version = ssl.CERT_REQUIRED, ssl.TLSVersion.TLSv1_3
    with tempfile.TemporaryDirectory(prefix="mcp-") as folder:
        await alpha.also_at(Path(folder) / "alpha.sock")
        theirs, port = await beta.also_with_tls(context), free_port()
        tls = {
            "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}],
            "clientCertificateRef": {"name": "client"},
        }
        listener = {
            "name": "https", "port": port, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "server"}]},
        }  # fmt: skip

        def documents(authority: Authority) -> str:
            return text_of(
                route(backendRefs=[*to_backend(name="alpha"), *to_backend(name="beta")]),
                backend("alpha", endpoints=[{"unix": {"path": f"{folder}/alpha.sock"}}]),
                backend("beta", endpoints=[{"ip": {"address": "127.0.0.1", "port": theirs}}], tls=tls),
                config_map("ca", **{"ca.crt": authority.ca.read_text()}),
                *(secret(name, **pair_of(authority, name)) for name in ("client", "server")),
                gateway(listener),
            )

        file = tmp_path / "mcp-route.yaml"
        file.write_text(documents(authority))
        keys = [pair_of(authority, name)["tls.key"] for name in ("client", "server")]
        async with gateway_of(file, {}, port) as served:
            connector = aiohttp.TCPConnector(ssl=authority.client([]))
            async with aiohttp.ClientSession(connector=connector) as http:
                client = TestClient(f"https://127.0.0.1:{port}/mcp", http)
                session = await client.initialize()
                for name in ("alpha", "beta"):
                    assert (await client.call(session, f"{name}__echo")).result
            shown = await served.local.admin("GET", "/config_dump") or ""
            before = await certificate_at(port, authority)
            authority.issue("server")
            file.write_text(documents(authority))
            await eventually(
                lambda: certificate_at(port, authority), "the new certificate", until=lambda one: one != before
            )
    assert "mcp-secret-certificate+server+beta.json" in shown
    for key in keys:
        assert key.splitlines()[1] not in shown


async def test_a_port_with_several_certificates(tmp_path: Path, alpha: ScriptedServer) -> None:
    """Clients get the one for the name that they ask for, and otherwise the first."""
    authority, port = Authority(tmp_path / "authority"), free_port()
    for name in ("one", "two"):
        authority.issue(name, x509.DNSName(f"{name}.example"))
    listeners = [
        {
            "name": name, "port": port, "protocol": "HTTPS", "hostname": f"{name}.example",
            "tls": {"certificateRefs": [{"name": name}]},
        }
        for name in ("one", "two")
    ]  # fmt: skip
    file = tmp_path / "mcp-route.yaml"
    file.write_text(
        text_of(
            route(backendRefs=to_backend(name="alpha")), backend("alpha", endpoints=at(alpha)), gateway(*listeners),
            *(secret(name, **pair_of(authority, name)) for name in ("one", "two")),
        )
    )  # fmt: skip
    of = {name: ssl.PEM_cert_to_DER_cert(authority.certificate(name).read_text()) for name in ("one", "two")}
    async with gateway_of(file, {}, port):
        for asked, shown in (("one.example", "one"), ("two.example", "two"), ("else.example", "one")):
            assert await certificate_at(port, authority, asked) == of[shown], asked


async def test_an_issuer_that_is_down_at_the_start_fails_closed(tmp_path: Path, alpha: ScriptedServer) -> None:
    """The route of Envoy AI Gateway's announcement, unchanged, with its documents and a Gateway behind it."""
    announced_route = Path(__file__).parents[1] / "unit" / "config" / "kubernetes" / "announcement.yaml"
    text = announced_route.read_text(encoding="utf-8")
    issuer = yaml.safe_load(text)["spec"]["securityPolicy"]["oauth"]["issuer"]
    # Nobody is there, either: what the announcement names must not be asked by a test.
    dead = f"https://127.0.0.1:{free_port()}"
    assert text.count(issuer) == 1
    listener = {"name": "http", "protocol": "HTTP", "port": 1975}
    spec = {"gatewayClassName": "aigw-run", "listeners": [listener]}
    more = [
        backend("context7", endpoints=at(alpha)),
        backend("github", endpoints=at(alpha)),
        secret("github-access-token", apiKey="t0ken"),
        document("Gateway", "gateway.networking.k8s.io/v1", "aigw-run", spec),
    ]
    file = tmp_path / "mcp-route.yaml"
    file.write_text(f"{text.replace(issuer, dead)}---\n{text_of(*more)}")
    async with running(file, "--port", "0", "--json") as process:
        url = (await announced(process))["url"]
        async with aiohttp.ClientSession() as session:
            async with session.post(url, json=PING) as refused:
                assert refused.status == 401
                assert "resource_metadata=" in refused.headers["www-authenticate"]
            bearer = {"authorization": "Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln"}
            async with session.post(url, json=PING, headers=bearer) as refused:
                assert refused.status in (401, 503)
        assert alpha.calls("ping") == []


async def test_options_of_aigw(alpha: ScriptedServer) -> None:
    """Both ways to give mcp-servers.json, at once with FILE a mistake."""
    text = json.dumps({"mcpServers": {"alpha": {"type": "http", "url": alpha.url, "headers": {"X-Key": "${KEY}"}}}})
    environment = {**os.environ, "KEY": "k3y"}
    async with piped([*RUN, "--mcp-json", text, "--port", "0", "--json"], environment) as process:
        [server] = (await announced(process))["servers"]
        assert (server["name"], server["problem"]) == ("alpha", None)
        assert alpha.calls("tools/list")[0].headers["x-key"] == "k3y"
    async with piped([*RUN, "file.json", "--mcp-config", "file.json"], environment) as process:
        _, err = await process.communicate()
    assert process.returncode == 2
    assert b"give one of FILE, --mcp-config, --mcp-json, --from and --all" in err
