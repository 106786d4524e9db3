"""`top`: which page, and what comes of it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from mcp_extproc.cli import cli
from mcp_extproc.run.page_file import Found, PageFile
from tests.support.processes import free_port


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "mcp-extproc" / "status"


def top(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["top", *arguments])


def test_there_is_none(runtime: Path) -> None:
    result = top()
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no gateway of this user has a status page" in result.stderr


def test_there_are_several(runtime: Path) -> None:
    PageFile("http://127.0.0.1:1/", "one.yaml")
    other = Found(url="http://127.0.0.1:2/", pid=os.getppid(), file="two.yaml", started=2.0)
    (runtime / f"{other.pid}.json").write_bytes(msgspec.json.encode(other))
    result = top()
    assert result.exit_code == 2
    assert "http://127.0.0.1:1/  one.yaml" in result.stderr
    assert "http://127.0.0.1:2/  two.yaml" in result.stderr


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_it_does_not_answer(options: list[str]) -> None:
    result = top(f"http://127.0.0.1:{free_port()}/", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "does not answer" in result.stderr


def test_it_is_no_url() -> None:
    result = top("localhost")
    assert result.exit_code == 2
    assert "expected a URL" in result.stderr
