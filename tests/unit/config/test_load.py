from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_extproc.config import ConfigError, Loaded, load, loads
from mcp_extproc.config.bounds import FILE_BYTES
from tests.unit.config.support import error_of

EMPTY = "is empty: add at least one server under servers (native) or mcpServers"
NATIVE = "servers: {a: {url: http://a/}}"
MCP = '{"mcpServers": {"a": {"url": "http://a/"}}}'


@pytest.mark.parametrize(
    ("name", "text", "source"),
    [
        ("gateway.yaml", NATIVE, "native"),
        ("gateway.yaml", '{"servers": {"a": {"url": "http://a/"}}}', "native"),
        ("gateway.yaml", "{servers: {a: {url: http://a/}}}", "native"),
        ("gateway.json", '{"servers": {"a": {"url": "http://a/", "timeout": "5s"}}}', "native"),
        ("mcp-servers.json", MCP, "mcp-servers"),
        ("-", MCP, "mcp-servers"),
        ("gateway.yaml", MCP, "mcp-servers"),
        ("gateway.yaml", "# mine\nmcpServers:\n  a: {url: http://a/}", "mcp-servers"),
        ("mcp.JSON", '{"servers": {"a": {"url": "http://a/", "type": "http"}}}', "mcp-servers"),
        ("-", '{"servers": {"a": {"url": "http://a/"}}, "inputs": []}', "mcp-servers"),
        ("x.json", "\ufeff" + MCP, "mcp-servers"),
        ("x.yaml", "\ufeff" + NATIVE, "native"),
    ],
)
def test_the_format_is_seen_from_the_content(name: str, text: str, source: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    for loaded in (loads(text, name, {}), load(path, {})):
        assert loaded.source == source
        assert loaded.config.servers["a"].authority == "a"


def test_a_native_file_is_not_taken_for_vs_codes() -> None:
    entry = {"url": "http://a/", "type": "http"}
    for text, name in (
        (json.dumps({"servers": {"a": entry}, "listen": {}}), "x.json"),
        ("servers: {a: {url: http://a/, type: http}}", "x.yaml"),
    ):
        assert error_of(text, name).startswith(f"{name}: servers.a.type: unknown key")


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("f", "", EMPTY),
        ("f", " \n", EMPTY),
        ("f", "\ufeff", EMPTY),
        ("f", "# nothing\n", EMPTY),
        ("f.json", "null", EMPTY),
        ("f", "[]", "expected a mapping with a key servers (native) or mcpServers at the top"),
        ("f", "just text", "expected a mapping with a key servers (native) or mcpServers at the top"),
        ("f.json", NATIVE, "line 1, column 1: not JSON: expecting value"),
        (
            "-",
            '{"mcpServers": {} /* why\n}',
            "line 1, column 19: a comment without an end: close it with */",
        ),
        ("f", "#" * (FILE_BYTES + 1), "is larger than 1 MiB"),
        ("f", "\u00e4" * (FILE_BYTES // 2 + 1), "is larger than 1 MiB"),
    ],
)
def test_text_that_is_no_configuration(name: str, text: str, problem: str) -> None:
    assert error_of(text, name) == f"{name}: {problem}"


def test_a_file_of_the_largest_size_is_read() -> None:
    assert loads(NATIVE + "\n" + "#" * (FILE_BYTES - len(NATIVE) - 1), "f", {}).source == "native"


def file_error(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert caught.value.__context__ is None
    return str(caught.value).removeprefix(f"{path}: ")


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    assert file_error(tmp_path / "none.yaml") == "no such file"
    assert file_error(tmp_path) == "is a directory: name a file in it"
    assert file_error(tmp_path / ("x" * 300)) == f"can't be read: {os.strerror(36)}"
    assert file_error(tmp_path / "a\0b") == "is not a valid file name"
    path = tmp_path / "f.yaml"
    path.write_text(NATIVE)
    assert file_error(path / "g.yaml") == f"can't be read: {os.strerror(20)}"


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not by chmod: the suite may run as root, who may read everything.
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert file_error(tmp_path / "f.yaml") == "permission denied: change the file's permissions or its owner"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a: 1\nb: \xff\n", "line 2: is not UTF-8: save the file in this encoding"),
        (NATIVE.encode("utf-16"), "line 1: is not UTF-8: save the file in this encoding"),
        (b"", EMPTY),
        (b"#" * (FILE_BYTES + 1), "is larger than 1 MiB"),
    ],
)
def test_content_that_can_not_be_read(content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(content)
    assert file_error(path) == problem


def test_loaded_is_a_value() -> None:
    loaded = loads(NATIVE, "f", {})
    assert loaded == Loaded(loaded.config, (), "native", loaded.name, loaded.text)
    with pytest.raises(AttributeError):
        loaded.warnings = ("x",)  # type: ignore[misc]


def test_an_agents_file_is_read_as_the_agent_reads_it(tmp_path: Path) -> None:
    """And the workers, who get the text and no place, read the same."""
    path = tmp_path / "shop" / ".vscode" / "mcp.json"
    path.parent.mkdir(parents=True)
    entry = {"command": "${workspaceFolder}/x", "args": ["${env:KEY}"], "timeout": 90}
    path.write_text(f'// mine\n{{"servers": {{"a": {json.dumps(entry)},}}, "inputs": []}}')
    loaded = load(path, {"KEY": "hush"})
    command = loaded.config.servers["a"].command
    assert command is not None
    assert [word.get_secret_value() for word in command] == [f"{tmp_path}/shop/x", "hush"]
    assert loaded.config.servers["a"].timeout == 90
    assert "hush" not in loaded.text
    assert loads(loaded.text, loaded.name, {"KEY": "hush"}).config == loaded.config


def test_a_gemini_settings_file(tmp_path: Path) -> None:
    path = tmp_path / ".gemini" / "settings.json"
    path.parent.mkdir()
    servers = {
        "a": {"httpUrl": "http://$HOST/", "timeout": 500},
        "off": {"httpUrl": "http://b/"},
        "c": {"url": "$NOPE"},
    }
    path.write_text(json.dumps({"theme": "x", "mcp": {"excluded": ["off"]}, "mcpServers": servers}))
    loaded = load(path, {"HOST": "a"})
    assert [(name, server.url, server.timeout) for name, server in loaded.config.servers.items()] == [
        ("a", "http://a/", 0.5)
    ]
    assert [warning.partition(" ")[0] for warning in loaded.warnings[1:]] == ["mcpServers.off:", "mcpServers.c"]
    assert loads(loaded.text, loaded.name, {"HOST": "a"}) == loaded


@pytest.mark.parametrize(
    "text", ["servers: {a: {url: 'http://a.example/mcp'}}", '{"mcpServers": {"a": {"url": "http://a/"}}}']
)
def test_other_formats_do_without_the_readers_of_kubernetes(text: str, tmp_path: Path) -> None:
    file = tmp_path / "gateway"
    file.write_text(text)
    load_it = "import sys, pathlib; from mcp_extproc.config import load; load(pathlib.Path(sys.argv[1]), {})"
    shown = "print(*(name for name in sys.modules if name.startswith('mcp_extproc.config.kubernetes')))"
    found = subprocess.run(
        [sys.executable, "-c", f"{load_it}; {shown}", file], check=True, capture_output=True, text=True
    )
    assert found.stdout.split() == []
