"""Addresses of sockets, as an operator writes them."""

from __future__ import annotations

import pytest

from mcp_extproc.address import Address, TcpAddress, UnixAddress, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/mcp.sock", UnixAddress("/run/mcp.sock")),
        ("unix:/a b/:9", UnixAddress("/a b/:9")),
        ("unix:/" + "x" * 106, UnixAddress("/" + "x" * 106)),
        ("127.0.0.1:9002", TcpAddress("127.0.0.1", 9002)),
        ("localhost:65535", TcpAddress("localhost", 65535)),
        ("[::1]:9002", TcpAddress("::1", 9002)),
    ],
)
def test_addresses_come_back_as_they_were_written(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "9002",
        ":9002",
        "localhost",
        "localhost:",
        "localhost:http",
        "localhost:-1",
        "localhost:65536",
        "localhost:9 ",
        "::1:9002",
        "::1",
        "unix:",
        "unix:run/mcp.sock",
        "unix:@abstract",
        "UNIX:/run/mcp.sock",
    ],
)
def test_other_texts_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"such as unix:/run/mcp\.sock"):
        parse_address(text)


@pytest.mark.parametrize("path", ["/" + "x" * 107, "/" + "\u00e9" * 54])
def test_a_path_too_long_for_the_kernel(path: str) -> None:
    with pytest.raises(ValueError, match="at most 107 bytes"):
        parse_address(f"unix:{path}")


@pytest.mark.parametrize(
    ("text", "is_loopback"),
    [
        ("127.0.0.1:1", True), ("127.8.9.10:1", True), ("localhost:1", True), ("[::1]:1", True),
        ("0.0.0.0:1", False), ("[::]:1", False), ("10.0.0.1:1", False), ("127.example.com:1", False), ("bridge:1", False),
    ],
)  # fmt: skip
def test_who_reaches_it(text: str, is_loopback: bool) -> None:
    address = parse_address(text)
    assert isinstance(address, TcpAddress)
    assert address.is_loopback is is_loopback
