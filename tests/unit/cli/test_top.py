"""`top`: which page, and what comes of it."""

from __future__ import annotations

import io
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mcp_extproc.cli import cli
from mcp_extproc.cli.top_screen import Seen, screen
from mcp_extproc.client.status import NoPage, Shown, events
from mcp_extproc.run.page_file import Found, PageFile
from tests.support.processes import free_port
from tests.unit.cli.test_top_screen import CALL, KNOWN, STATE


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


def test_the_one_that_serves_a_file(runtime: Path) -> None:
    with answering(msgspec.json.encode(PAGE)) as url:
        PageFile("http://127.0.0.1:1/", "one.yaml")
        other = Found(url=url, pid=os.getppid(), file="two.yaml", started=2.0)
        (runtime / f"{other.pid}.json").write_bytes(msgspec.json.encode(other))
        for name in ("two.yaml", "some/folder/two.yaml"):
            assert json.loads(top(name, "--json").stdout) == PAGE
        unknown = top("three.yaml")
        assert (unknown.exit_code, unknown.stdout) == (2, "")
        assert "serves a file 'three.yaml'" in unknown.stderr


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_it_does_not_answer(options: list[str]) -> None:
    result = top(f"http://127.0.0.1:{free_port()}/", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "does not answer" in result.stderr


def test_it_is_no_url() -> None:
    result = top("localhost")
    assert result.exit_code == 2
    assert "expected a URL" in result.stderr


PAGE = {"known": KNOWN, "state": STATE, "calls": [CALL]}
COUNT = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.none() | st.text()


def changed(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    """With another value at a place."""
    if not path:
        return value
    copied = data.copy()
    copied[path[0]] = changed(data[path[0]], path[1:], value)
    return copied


def places(data: Any) -> Iterator[tuple[Any, ...]]:
    """Ways to all values."""
    yield ()
    members = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for name, inner in members:
        yield from ((name, *rest) for rest in places(inner))


def answering(body: bytes, status: int = 200) -> AbstractContextManager[str]:
    return one_answer(
        b"HTTP/1.1 %d x\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n%s" % (status, body)
    )


@contextmanager
def one_answer(answer: bytes) -> Iterator[str]:
    """The URL of somebody who says the same to each who asks."""

    def serve(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    with suppress(OSError):
                        connection.sendall(answer)
                        connection.shutdown(socket.SHUT_WR)
                        connection.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_a_page_is_printed_once() -> None:
    with answering(msgspec.json.encode(PAGE)) as url:
        assert "add\\u001b]0;x" in top(url).stdout
        assert json.loads(top(url, "--json").stdout) == PAGE
    with answering(msgspec.json.encode(PAGE | {"known": None})) as url:
        assert top(url).stdout == "Connecting\n"


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"{}"),
        (302, msgspec.json.encode(PAGE)),
        (200, b""),
        (200, b"[]"),
        (200, b'{"known": {}, "state": {}, "calls": []}'),
        (200, b'{"known": null, "state": null, "calls": null}'),
        (200, msgspec.json.encode(changed(PAGE, ("calls", 0, "time"), 1e300))),
        (200, msgspec.json.encode(changed(PAGE, ("state", "board", "total", "course", 0), -9))),
        (200, msgspec.json.encode(PAGE)[:-1] + b',"more":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
        (200, msgspec.json.encode(PAGE)[:-1] + b',"more":"\xff"}'),
        (200, msgspec.json.encode(PAGE)[:-1] + b',"more":"\\ud800"}'),
        (200, b" " * (17 << 20)),
    ],
)
def test_attack_a_page_of_another_shape(options: list[str], status: int, body: bytes) -> None:
    with answering(body, status) as url:
        result = top(url, *options)
    assert (result.exit_code, result.stdout, type(result.exception)) == (1, "", SystemExit)
    assert "is no status page" in result.stderr
    assert result.stderr.count("\n") == 1


@given(st.sampled_from([*places(PAGE)]), COUNT | st.just([]) | st.just({}) | st.booleans())
def test_attack_whatever_a_page_says_is_drawn_or_refused(path: tuple[Any, ...], value: Any) -> None:
    try:
        page = msgspec.json.decode(orjson.dumps(changed(PAGE, path, value)), type=Shown)
    except (ValueError, TypeError):
        return
    console = Console(file=io.StringIO(), width=160)
    console.print(screen(Seen(page["known"], page["state"], page["calls"]), 160, 30))


async def test_attack_events_of_another_shape() -> None:
    start = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n"
    say = b"event: %s\ndata: %s\n\n"
    with one_answer(start + say % (b"\xff\x1b", b"{}") + say % (b"begin", b"{}") + say % (b"state", b"{}")) as url:
        coming = events(url)
        assert await anext(coming) == ("begin", {})
        with pytest.raises(NoPage, match="is no status page, or one of another version"):
            await anext(coming)
