"""Files that Envoy reads: each that it can't read is a problem of the field that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.config import ConfigError, EnvoysSource, FileSource, GatewayConfig
from mcp_extproc.config.named_files import missing_files


def config(**tls: Any) -> GatewayConfig:
    return GatewayConfig.model_validate({"servers": {"a.b": {"url": "https://a.example/mcp", "tls": tls}}})


def test_every_file_is_looked_at(tmp_path: Path) -> None:
    there, gone, no_file = tmp_path / "there.pem", tmp_path / "gone.pem", tmp_path / "there.pem" / "x"
    there.touch()
    found = GatewayConfig.model_validate({
        "servers": {
            "a": {"url": "https://a.example/mcp", "tls": {"ca": str(gone)}},
            "b": {"url": "https://b.example/mcp", "tls": {"client_certificate": str(there), "client_key": str(no_file)}},
            "c": {"url": "https://c.example/mcp"},
        },
        "listen": {"tls": {"certificate": str(there), "key": str(tmp_path), "client_ca": str(gone)}},
    })  # fmt: skip
    problems = [str(problem) for problem in missing_files(found)]
    no_such = (
        "there is no such file: correct the path (a relative path starts in the directory that the gateway is started in),"
        " or put the file there"
    )
    assert problems == [
        "listen.tls.key: is a directory: name the file in it",
        f"listen.tls.client_ca: {no_such}",
        f"servers.a.tls.ca: {no_such}",
        "servers.b.tls.client_key: the file can't be read: Not a directory",
    ]


def test_one_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key.pem"
    file.touch(mode=0)
    monkeypatch.setattr("os.access", lambda *_: False)  # root may read everything
    [problem] = missing_files(config(ca=str(file)))
    assert str(problem) == 'servers["a.b"].tls.ca: the file can\'t be read: Permission denied'


def test_a_source_refuses_what_envoy_can_not_read_until_it_is_there(tmp_path: Path) -> None:
    file, ca = tmp_path / "gateway.yaml", tmp_path / "ca.pem"
    file.write_text(json.dumps({"servers": {"a": {"url": "https://a.example/mcp", "tls": {"ca": str(ca)}}}}))
    source = EnvoysSource(FileSource(file, {}))
    with pytest.raises(ConfigError, match=r"gateway\.yaml: servers\.a\.tls\.ca: there is no such file"):
        source.load()
    before = source.signature()
    assert source.signature() == before
    ca.touch()
    assert source.signature() != before
    assert source.load().config.servers.keys() == {"a"}
