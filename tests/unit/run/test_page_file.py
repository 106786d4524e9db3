"""The file by which `top` finds a page."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from mcp_extproc.run.page_file import Found, PageFile, pages


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "mcp-extproc" / "status"


def test_it_is_there_while_the_gateway_is(runtime: Path) -> None:
    assert pages() == []
    file = PageFile("http://127.0.0.1:9901/", "gateway.yaml")
    [found] = pages()
    assert (found.url, found.pid, found.file) == ("http://127.0.0.1:9901/", os.getpid(), "gateway.yaml")
    assert (runtime.stat().st_mode & 0o777, runtime.parent.stat().st_mode & 0o777) == (0o700, 0o700)
    file.remove()
    assert pages() == []


def test_what_was_killed_is_tidied_away(runtime: Path) -> None:
    PageFile("http://127.0.0.1:9901/", "gateway.yaml")
    gone = Found(url="http://127.0.0.1:1/", pid=1 << 30, file="x", started=0.0)
    (runtime / "1.json").write_bytes(msgspec.json.encode(gone))
    (runtime / "2.json").write_text("not JSON")
    assert [found.url for found in pages()] == ["http://127.0.0.1:9901/"]
    assert not (runtime / "1.json").exists()


def test_a_folder_of_others_is_not_used(runtime: Path, capfd: pytest.CaptureFixture[str]) -> None:
    runtime.parent.mkdir(mode=0o777)
    runtime.parent.chmod(0o777)
    PageFile("http://127.0.0.1:9901/", "gateway.yaml").remove()
    assert not runtime.exists()


def test_nothing_is_read_where_others_can_write(runtime: Path) -> None:
    """Nor anything removed: a link there may lead to any folder of ours."""
    mine = runtime.parent.parent / "mine"
    mine.mkdir(mode=0o700)
    gone = Found(url="http://127.0.0.1:1/", pid=1 << 30, file="x", started=0.0)
    (mine / "1.json").write_bytes(msgspec.json.encode(gone))
    runtime.parent.mkdir(mode=0o700)
    runtime.symlink_to(mine)
    assert pages() == []
    runtime.unlink()
    mine.rename(runtime)
    runtime.parent.chmod(0o777)
    assert pages() == []
    assert (runtime / "1.json").exists()
