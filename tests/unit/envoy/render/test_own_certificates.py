"""Certificates that Envoy presents: which of them stand in its configuration, and which in a file of their own."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mcp_extproc.cli import cli
from mcp_extproc.config import ConfigError, GatewayConfig
from mcp_extproc.envoy.files import write_secrets
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.render.own_certificates import needing_files, of_listener, of_servers
from mcp_extproc.envoy.watched_files import render
from tests.support.tls import Authority


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    _, key, certificate = Authority(tmp_path_factory.mktemp("authority")).client_files()
    return certificate.decode(), key.decode()


def document(pair: tuple[str, str]) -> dict[str, Any]:
    chain, key = pair
    return {
        "listen": {"tls": {"certificate_inline": chain, "key_inline": key}},
        "servers": {
            "a": {
                "url": "https://a.example/mcp",
                "tls": {"client_certificate_inline": chain, "client_key_inline": key},
            },
            "b": {
                "url": "https://b.example/mcp",
                "tls": {"client_certificate": "client.pem", "client_key": "client.key"},
            },
        },
    }


def test_a_key_is_in_a_file_of_its_own(pair: tuple[str, str], tmp_path: Path) -> None:
    config = GatewayConfig.model_validate(document(pair))
    rendered = render(config, Layout.in_directory(tmp_path), tmp_path)
    line = pair[1].splitlines()[1]
    for file in (rendered.bootstrap, *rendered.watched):
        assert line not in file.text.decode()
    assert b'"filename":"client.key"' in rendered.clusters.text.replace(b" ", b"").replace(b"\n", b"")
    write_secrets(tmp_path, rendered.secrets)
    names = {"a": "mcp-secret-certificate+server+a.json", "listen": "mcp-secret-certificate+listen.json"}
    assert sorted(file.name for file in rendered.secrets) == sorted(names.values())
    assert str(tmp_path / names["a"]) in rendered.clusters.text.decode()
    assert str(tmp_path / names["listen"]) in rendered.listeners.text.decode()
    for file in rendered.secrets:
        path = tmp_path / file.name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        [secret] = json.loads(path.read_text())["resources"]
        assert secret["tls_certificate"]["private_key"]["inline_string"] == pair[1]
        assert file.secrets == (pair[1],)
    assert line not in repr(rendered)
    assert line not in repr(list(of_servers(config)))


def test_where_there_are_no_files_it_is_refused(pair: tuple[str, str], tmp_path: Path) -> None:
    config = GatewayConfig.model_validate(document(pair))
    [of_a] = needing_files(of_servers(config))
    [of_clients] = needing_files(of_listener(config))
    assert (of_a.path, of_clients.path) == ("servers.a.tls.client_key_inline", "listen.tls.key_inline")
    file = tmp_path / "gateway.yaml"
    file.write_text(json.dumps(document(pair)))
    refused = CliRunner().invoke(cli, ["envoy", "bootstrap", str(file)]).exception
    assert isinstance(refused, ConfigError)
    assert refused.problems == (of_a, of_clients)
