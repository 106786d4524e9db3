"""The names of methods stand in the table alone, so that a new one is a row and not a hunt."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mcp_extproc
from mcp_extproc.mcp import methods
from mcp_extproc.mcp.methods import Method, ServerMethod

ROOT = Path(mcp_extproc.__file__).parent
NAMES = {*methods.FROM_CLIENTS, *methods.SERVER_REQUESTS, *methods.SERVER_NOTIFICATIONS}
ROWS = {name for name, value in vars(methods).items() if isinstance(value, Method | ServerMethod)}
"""Rows that have a name of their own, because the gateway sends these messages itself."""

MODULES = [
    path.relative_to(ROOT).as_posix()
    for package in ("mcp", "gateway", "upstreams")
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.name != "methods.py"
]


def literals(source: str) -> list[str]:
    """Names of methods in a module: written out, or compared with by way of a row."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and node.value in NAMES:
            found.append(f"line {node.lineno}: {node.value!r}")
        elif isinstance(node, ast.JoinedStr) and _could_be_a_name(node):
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.Compare | ast.match_case):
            compared = node.pattern if isinstance(node, ast.match_case) else node
            found += [f"compares with {name}" for name in _rows_in(compared)]
    return found


def _could_be_a_name(text: ast.JoinedStr) -> bool:
    """A text put together out of pieces, such as ``f"{kind}/list"``."""
    constant = "".join(
        part.value for part in text.values if isinstance(part, ast.Constant) and isinstance(part.value, str)
    )
    endings = {name[name.index("/") :] for name in NAMES if "/" in name}
    return constant in endings or constant.startswith("notifications/")


def _rows_in(node: ast.AST) -> list[str]:
    found = []
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            found.append(inner.id)
        elif isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and inner.value.id == "methods":
            found.append(inner.attr)
    return [name for name in found if name in ROWS]


@pytest.mark.parametrize("module", MODULES)
def test_no_method_is_named_beside_the_table(module: str) -> None:
    assert literals((ROOT / module).read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        'if method == "tools/call":\n    pass',
        'match method:\n    case "ping":\n        pass',
        'x = {"initialize": 1}',
        "if row is methods.PING:\n    pass",
        "if name == SET_LEVEL.name:\n    pass",
        'x = f"{kind}/list"',
        'x = f"notifications/{kind}/list_changed"',
    ],
)
def test_what_counts(source: str) -> None:
    assert literals(source) != []


@pytest.mark.parametrize(
    "source", ['x = "tools"', "send(methods.PING.name)", 'x = f"{a}/{b}"', "row = REQUESTS.get(name)"]
)
def test_what_does_not_count(source: str) -> None:
    assert literals(source) == []
