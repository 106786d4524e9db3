"""Errors as clients see them."""

from __future__ import annotations

import json

import pytest

from mcp_extproc.mcp.errors import McpError, render


def error(id: bytes | None = None, data: object = None) -> McpError:
    return McpError(-32602, 'Unknown tool: "x"\r\n\0', reason="unknown_tool", id=id, data=data)


def test_an_unreadable_id_is_left_out() -> None:
    """`null` is no id in MCP's schema."""
    assert json.loads(render(error())) == {
        "jsonrpc": "2.0",
        "error": {"code": -32602, "message": 'Unknown tool: "x"\r\n\0'},
    }


@pytest.mark.parametrize("id", [b"0", b'"0"', b"9007199254740993", b"123456789012345678901234567890", b'"\\u0041"'])
def test_ids_are_written_as_they_were_read(id: bytes) -> None:
    """`0` is an id like any other."""
    assert render(error(id)).startswith(b'{"jsonrpc":"2.0","id":' + id + b',"error":{')


@pytest.mark.parametrize("data", [{"supported": ["a"]}, [], {}, "", 0, False])
def test_data(data: object) -> None:
    assert json.loads(render(error(b"1", data)))["error"]["data"] == data


def test_an_error_about_a_request_is_the_same_error() -> None:
    first = error()
    assert first.about(b"5") is first
    assert first.id == b"5"
    assert (first.status, str(first)) == (200, first.message)
