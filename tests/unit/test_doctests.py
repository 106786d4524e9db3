"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import mcp_extproc

ROOT = Path(mcp_extproc.__file__).parent
# Only modules that have examples are imported: Envoy's typed API alone takes a second.
MODULES = sorted(
    ".".join(["mcp_extproc", *path.relative_to(ROOT).with_suffix("").parts])
    for path in ROOT.rglob("*.py")
    if ">>>" in path.read_text()
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0
    assert results.failed == 0


def test_the_examples_are_found() -> None:
    assert {"mcp_extproc.mcp.jsontext", "mcp_extproc.mcp.names", "mcp_extproc.mcp.transport"} <= set(MODULES)
