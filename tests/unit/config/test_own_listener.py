"""What only a listener of the gateway's own needs: where it is attached, TLS is of whoever owns the listener."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mcp_extproc.cli import cli
from mcp_extproc.config import ConfigError, FileSource
from mcp_extproc.config.own_listener import OwnListenersSource

SERVERS = {"a": {"url": "http://127.0.0.1:1/mcp"}}
MTLS = {"servers": SERVERS, "authentication": {"mtls": {"ca": "clients.pem"}}}
PROBLEM = "authentication.mtls: requires listen.tls: certificates come with the handshake"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "gateway.yaml"
    found.write_text(json.dumps(MTLS))
    return found


def test_certificates_come_by_tls(file: Path) -> None:
    attached = FileSource(file, {})
    own = OwnListenersSource(attached)
    with pytest.raises(ConfigError) as caught:
        own.load()
    assert PROBLEM in str(caught.value)
    assert attached.load().config.authentication is not None
    before = own.signature()
    file.write_text(json.dumps({**MTLS, "listen": {"tls": {"certificate": "server.pem", "key": "server.key"}}}))
    assert own.load().config.listen.tls is not None
    assert own.signature() != before
    assert own.folder == file.parent


@pytest.mark.parametrize("command", [["run"], ["envoy", "bootstrap"], ["serve", "--envoy-config", "envoy"]], ids=str)
def test_who_starts_such_a_listener_refuses(file: Path, command: list[str]) -> None:
    (file.parent / "clients.pem").write_text("")
    file.write_text(json.dumps({**MTLS, "authentication": {"mtls": {"ca": str(file.parent / "clients.pem")}}}))
    done = CliRunner().invoke(cli, [*command, str(file)])
    assert isinstance(done.exception, ConfigError), done.output
    assert PROBLEM in str(done.exception)


def test_a_check_of_the_file_says_so(file: Path) -> None:
    done = CliRunner().invoke(cli, ["validate", "--json", str(file)])
    assert done.exit_code == 0, done.output
    assert any(PROBLEM in warning for warning in json.loads(done.stdout)["warnings"])
