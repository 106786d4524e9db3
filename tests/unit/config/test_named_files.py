"""Files that Envoy reads: each that it can't read is a problem of the field that names it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.config import ConfigError, EnvoysSource, FileSource, GatewayConfig
from mcp_extproc.config.named_files import missing_files, unusable_files


def config(**tls: Any) -> GatewayConfig:
    return GatewayConfig.model_validate({"servers": {"a.b": {"url": "https://a.example/mcp", "tls": tls}}})


def test_every_file_is_looked_at(tmp_path: Path) -> None:
    there, gone, no_file = tmp_path / "there.pem", tmp_path / "gone.pem", tmp_path / "there.pem" / "x"
    there.touch()
    os.mkfifo(tmp_path / "pipe")
    found = GatewayConfig.model_validate({
        "servers": {
            "a": {"url": "https://a.example/mcp", "tls": {"ca": str(gone)}},
            "b": {"url": "https://b.example/mcp", "tls": {"client_certificate": str(there), "client_key": str(no_file)}},
            "c": {"url": "https://c.example/mcp"},
            "d": {
                "url": "https://d.example/mcp",
                "credentials": {"header": {"name": "x-key", "file": str(tmp_path / "pipe")}},
            },
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
        "servers.d.credentials.header.file: is not a regular file, but a pipe, a socket or a device: name a file",
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


def test_what_is_wrong_with_files_of_keys(tmp_path: Path) -> None:
    """In our words: no key is repeated, nor a name, which may be one."""
    files = {
        "short.yaml": "alice: hush-hush\n",
        "empty.yaml": "",
        "broken.yaml": "alice: [hush-hush-hush-hush\n",
        "list.json": '["hush"]',
        "private.json": '{"keys": [{"kty": "oct", "k": "aHVzaA"}]}',
        "text.json": "hush",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    def keys(name: str) -> dict[str, Any]:
        return {"api_keys": {"file": str(tmp_path / name)}}

    def key_set(name: str) -> dict[str, Any]:
        issuer = {"issuer": f"https://idp/{name}", "audiences": ["a"], "jwks": {"file": str(tmp_path / name)}}
        return {"oauth": {"issuers": [issuer]}}

    sections = [keys("short.yaml"), keys("empty.yaml"), keys("broken.yaml"), keys("gone.yaml")]
    sections += [key_set("list.json"), key_set("private.json"), key_set("text.json"), key_set("")]
    found = GatewayConfig.model_validate(
        {
            "servers": {"a": {"url": "https://a.example/mcp"}},
            "virtual_servers": {f"v{number}": {"authentication": one} for number, one in enumerate(sections)},
        }
    )
    problems = [str(problem) for problem in unusable_files(found)]
    places = [text.partition(": ")[0] for text in problems]
    assert places == [
        *(f"virtual_servers.v{number}.authentication.api_keys.file" for number in (0, 1, 2)),
        *(f"virtual_servers.v{number}.authentication.oauth.issuers[0].jwks.file" for number in (4, 5, 6)),
    ]
    assert "hush" not in "".join(problems)
    said = (
        "entry 1: expected a key of 16",
        "is empty",
        "line 2",
        'no list "keys"',
        "no public key for any",
        "is not JSON",
    )
    for text, words in zip(problems, said, strict=True):
        assert words in text


def test_a_file_that_is_missing_is_named_with_its_line(tmp_path: Path) -> None:
    """In the file that names it."""
    credentials = f"credentials: {{header: {{name: x-key, file: {tmp_path}/none}}}}"
    entry = f"  NAME:\n    url: http://h/mcp\n    {credentials}\n"
    (tmp_path / "team.yaml").write_text("servers:\n" + entry.replace("NAME", "b"))
    file = tmp_path / "gateway.yaml"
    for include, more in (
        ("", ()),
        ("include: [team.yaml]\n", ("team.yaml line 4, servers.b.credentials.header.file",)),
    ):
        file.write_text(f"{include}servers:\n{entry.replace('NAME', 'a')}")
        with pytest.raises(ConfigError) as caught:
            EnvoysSource(FileSource(file, {})).load()
        first = f"line {5 if include else 4}, servers.a.credentials.header.file"
        assert [str(problem).partition(": ")[0] for problem in caught.value.problems] == [first, *more]
