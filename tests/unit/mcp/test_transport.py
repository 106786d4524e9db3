"""What the headers of a request have to say."""

from __future__ import annotations

import pytest

from mcp_extproc.mcp.transport import JSON, SSE, accepts, host_allowed, media_type, origin_allowed


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("application/json", JSON), ("APPLICATION/JSON", JSON), ("application/json; charset=utf-8", JSON),
        (" application/json ;x=y", JSON), ("text/event-stream;charset=utf-8", SSE), ("", ""), (";", ""),
        ("application/json-rpc", "application/json-rpc"), ("application/json, text/plain", "application/json, text/plain"),
    ],
)  # fmt: skip
def test_media_types(header: str, found: str) -> None:
    assert media_type(header) == found


@pytest.mark.parametrize(
    "header",
    [
        "application/json, text/event-stream",
        "text/event-stream, application/json",
        "text/event-stream,application/json",
        "Application/JSON, Text/Event-Stream",
        "*/*",
        "application/*, text/*",
        "text/event-stream, */*;q=0.1",
        "application/json;q=0.9,text/event-stream;q=1",
        "application/json; charset=utf-8, text/event-stream; x=y",
        "text/html, application/json, text/event-stream",
    ],
)
def test_both_kinds_of_answers_are_taken(header: str) -> None:
    """In either order, and wildcards count."""
    assert accepts(header, JSON, SSE)


@pytest.mark.parametrize(
    "header",
    [
        "application/json",
        "text/event-stream",
        "text/html",
        "",
        ",",
        "application/json, text/event-stream;q=0",
        "application/json;q=0.000, text/event-stream",
        "application/json, text/event-stream; q=0.0",
        "*/*;q=0",
        "application/*",
        "text/*",
        "*",
        "application/jsonx, text/event-stream",
        "json, event-stream",
    ],
)
def test_one_kind_of_answers_is_not_taken(header: str) -> None:
    """Clients list both (MCP transports, Sending Messages)."""
    assert not accepts(header, JSON, SSE)


LOOPBACK = [
    "localhost", "LOCALHOST", "localhost:1975", "localhost.", "app.localhost", "app.localhost:80", "127.0.0.1",
    "127.0.0.1:1975", "127.1.2.3", "[::1]", "[::1]:1975", "localhost:",
]  # fmt: skip
FOREIGN = [
    "", ":1975", "example.com", "localhost.example.com", "127.0.0.1.nip.io", "notlocalhost", "localhost@example.com",
    "user@localhost", "@localhost", "localhost:x", "localhost:99999", "localhost/x", "localhost#x", "localhost?x=y",
    "localhost, example.com", "0.0.0.0", "[::]", "10.0.0.1", "192.168.0.1", "[fe80::1]", "[::1", "::1]", "127.0.0.1x", "1",
    "localhost example.com", "local host",
    # Envoy joins several Host headers with commas.
    "evil.com,x.localhost", "evil.com,.localhost", "evil.com, x.localhost", "evil.com;x.localhost", "evil.com\\.localhost",
    "evil.com%2fx.localhost", "evil.com\x00.localhost", "evil.com\t.localhost", ".localhost", "a..localhost", "localhost..",
    "[::1].localhost", "[::1]x", "\u0131.localhost", "localhost:\u0661", "a." * 130 + "localhost",
]  # fmt: skip


@pytest.mark.parametrize("host", LOOPBACK)
def test_hosts_that_are_this_machine(host: str) -> None:
    assert host_allowed(host, ())


@pytest.mark.parametrize("host", FOREIGN)
def test_hosts_that_are_not(host: str) -> None:
    """DNS rebinding: a foreign name whose address is this machine's."""
    assert not host_allowed(host, ())


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("host.docker.internal", True), ("HOST.docker.internal:1975", True), ("host.docker.internal.", True),
        ("[fd00::1]", True), ("localhost", True), ("docker.internal", False), ("x.host.docker.internal", False),
        ("evil.com,host.docker.internal", False),
    ],
)  # fmt: skip
def test_further_hosts(host: str, allowed: bool) -> None:
    assert host_allowed(host, {"host.docker.internal", "fd00::1"}) is allowed


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        *[(f"http://{host}", True) for host in LOOPBACK],
        *[(f"http://{host}", False) for host in FOREIGN],
        ("https://localhost:8443", True), ("HTTP://localhost", True), ("null", False), ("", False), ("localhost", False),
        ("file://localhost", False), ("chrome-extension://localhost", False), ("http:localhost", False),
        ("http://localhost/", False), ("http://localhost http://example.com", False), ("https://example.com", False),
    ],
)  # fmt: skip
def test_pages_of_this_machine_may_call_by_default(origin: str, allowed: bool) -> None:
    """No others: they could be used for DNS rebinding (MCP transports, Security Warning)."""
    assert origin_allowed(origin, None) is allowed


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example.com", True), ("https://APP.example.com", True), ("http://app.example.com", False),
        ("https://app.example.com:8443", False), ("https://app.example.com/", False), ("https://evil.app.example.com", False),
        ("https://app.example.com.evil", False), ("http://localhost", False), ("null", False), ("", False),
    ],
)  # fmt: skip
def test_listed_origins_and_no_others_may_call(origin: str, allowed: bool) -> None:
    """A list replaces the default, loopback included."""
    assert origin_allowed(origin, ("https://app.example.com",)) is allowed


@pytest.mark.parametrize("origin", ["https://example.com", "null", ""])
def test_a_star_lets_all_pages_call(origin: str) -> None:
    assert origin_allowed(origin, ("*",))
    assert not origin_allowed(origin, ())
