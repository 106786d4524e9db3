"""The handshake with a real server that has sessions, and with one that has none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.children import Child
from bench.errors import BenchError
from bench.session import open_session
from bench.tools import tool_names
from bench.upstream import Ports

TOOLS = tool_names(2)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Child, Ports]]:
    directory: Path = tmp_path_factory.mktemp("upstream")
    with Child.module("bench.upstream", directory) as child:
        yield child, Ports.parse(child.read_line())


def test_a_session_has_an_id(server: tuple[Child, Ports]) -> None:
    child, ports = server
    assert open_session(ports.sessions, TOOLS, child.check).keys() == {"mcp-session-id", "mcp-protocol-version"}
    with pytest.raises(BenchError, match=r"session 'bench-\d+'; expected 2025-06-18 and none"):
        open_session(ports.sessions, TOOLS, child.check, has_sessions=False)


def test_where_there_are_no_sessions_there_is_none(server: tuple[Child, Ports]) -> None:
    child, ports = server
    assert open_session(ports.stateless, TOOLS, child.check, has_sessions=False).keys() == {"mcp-protocol-version"}
    with pytest.raises(BenchError, match="session None; expected 2025-06-18 and an id"):
        open_session(ports.stateless, TOOLS, child.check)


def test_all_tools_have_to_be_listed(server: tuple[Child, Ports]) -> None:
    child, ports = server
    with pytest.raises(BenchError, match=r"tools/list named \['count', 'echo'\]; expected \['echo'\]"):
        open_session(ports.sessions, ("echo",), child.check)
