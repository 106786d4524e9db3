"""Envoy's configuration as files: what changes with what, and how they are written."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.config import GatewayConfig
from mcp_extproc.envoy.files import File, Rendered, write
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.watched_files import render

LAYOUT = Layout.in_directory(Path("/run/mcp"), workers=2)


def rendered(*servers: str, **more: Any) -> Rendered:
    sections = {
        name: {"url": f"http://{name}.example/mcp?key=hush", "headers": {"authorization": "hush"}} for name in servers
    }
    config = GatewayConfig.model_validate({"servers": sections, **more})
    return render(config, LAYOUT, Path("/run/mcp"))


def changed(before: Rendered, after: Rendered) -> set[str]:
    pairs = zip([before.bootstrap, *before.watched], [after.bootstrap, *after.watched], strict=True)
    return {old.name for old, new in pairs if old != new}


def test_the_same_configuration_gives_the_same_files() -> None:
    assert changed(rendered("a", "b"), rendered("a", "b")) == set()


def test_a_server_changes_clusters_and_routes_only() -> None:
    """A changed listener would drain the connections of all clients."""
    routes = {f"rds-{name}.json" for name in ("mcp", "mcp_batches", "mcp_upstreams", "mcp_repair")}
    assert changed(rendered("a"), rendered("a", "b")) == {"cds.json", *routes}


def test_a_limit_changes_the_listeners() -> None:
    assert changed(rendered("a"), rendered("a", limits={"request_bytes": 4096})) == {"lds.json"}


def test_versions_follow_the_content() -> None:
    before, after = rendered("a"), rendered("a", "b")
    for old, new in zip(before.watched, after.watched, strict=True):
        assert (old.version == new.version) == (old.text == new.text)
        assert json.loads(new.text)["version_info"] == new.version


def test_each_file_names_the_next() -> None:
    whole = rendered("a")
    started = json.loads(whole.bootstrap.text)
    sources = started["dynamic_resources"]
    assert sources["cds_config"]["path_config_source"]["path"] == "/run/mcp/cds.json"
    assert sources["lds_config"]["path_config_source"]["path"] == "/run/mcp/lds.json"
    assert "static_resources" not in started
    listeners = json.loads(whole.listeners.text)["resources"]
    assert [listener["name"] for listener in listeners] == ["mcp", "mcp_upstreams", "mcp_repair", "mcp_batches"]
    for listener, file in zip(listeners, whole.routes, strict=True):
        [table] = json.loads(file.text)["resources"]
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        assert "route_config" not in manager
        assert manager["rds"]["route_config_name"] == table["name"]
        assert manager["rds"]["config_source"]["path_config_source"]["path"] == f"/run/mcp/{file.name}"
        assert file.stat == f"http.{listener['name']}.rds.{table['name']}"


def test_no_file_holds_a_secret() -> None:
    whole = rendered("a")
    assert not any(b"hush" in file.text for file in (whole.bootstrap, *whole.watched))


def test_only_what_changes_is_written_and_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "cds.json"
    assert write(tmp_path, File("cds.json", b"1"))
    first = path.stat()
    assert not write(tmp_path, File("cds.json", b"1"))
    again = path.stat()  # its time of access may change, as it is read to be compared
    assert (again.st_ino, again.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    with path.open("rb") as before:
        assert write(tmp_path, File("cds.json", b"2"))
        assert before.read() == b"1", "the file was moved there, not written over"
    assert path.read_bytes() == b"2"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_can_not_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    """On a full disk. The error says which file, and half a file takes no space."""
    write(tmp_path, File("cds.json", b"1"))
    (tmp_path / ".cds.json.new").symlink_to("/dev/full")
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/cds.json'"):
        write(tmp_path, File("cds.json", b"2"))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"1"]


def test_only_the_owner_can_read_the_files_with_api_keys(tmp_path: Path) -> None:
    """Whatever the umask, whoever wrote them, and from the first moment on."""
    config = GatewayConfig.model_validate({
        "servers": {"a": {"url": "http://a.example/mcp"}},
        "authentication": {"api_keys": {"file": "keys.yaml"}},
    })  # fmt: skip
    whole = render(config, LAYOUT, tmp_path, {"keys.yaml": {"alice": ("a-key-of-alices-1234",)}})
    with_keys = {file.name for file in whole.watched if b"a-key-of-alices-1234" in file.text}
    assert with_keys == {"rds-mcp.json", "rds-mcp_batches.json"}
    for file in whole.watched:
        (tmp_path / file.name).write_bytes(b"as it was before")
        (tmp_path / f".{file.name}.new").write_bytes(b"left behind")
        assert write(tmp_path, file)
    modes = {file.name: stat.S_IMODE((tmp_path / file.name).stat().st_mode) for file in whole.watched}
    assert {name for name, mode in modes.items() if mode == 0o600} == with_keys
