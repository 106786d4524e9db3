"""Servers as they are written in files of agents: ``npx`` and ``uvx`` install what they start, once for all tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from tests.support.npm import node
from tests.support.processes import ROOT

CLAUDE = "@anthropic-ai/claude-code@2.1.332"
GEMINI = "@google/gemini-cli@0.61.0"

CONTEXT7 = "@upstash/context7-mcp@4.1.1"
EVERYTHING = "@modelcontextprotocol/server-everything@2026.8.31"
FILESYSTEM = "@modelcontextprotocol/server-filesystem@2026.8.31"
MEMORY = "@modelcontextprotocol/server-memory@2026.8.31"
TIME = "mcp-server-time@2026.10.19"

NPX_ENV = {"npm_config_cache": str(ROOT / ".cache" / "npx"), "npm_config_update_notifier": "false"}


def npx(package: str, *arguments: str, **env: str) -> dict[str, Any]:
    """The entry of a package from npm."""
    return {"command": "npx", "args": ["-y", package, *arguments], "env": NPX_ENV | env}


def uvx(package: str, *arguments: str) -> dict[str, Any]:
    """The entry of a package from PyPI."""
    return {"command": "uvx", "args": [package, *arguments], "env": {"UV_CACHE_DIR": str(ROOT / ".cache" / "uvx")}}


def search_path(folder: Path) -> str:
    """``PATH`` with Node, its ``npx``, and the ``uvx`` of the virtual environment.

    Args:
        folder: for the ``npx``: that in Node's wheel looks for npm in the wrong place.
    """
    npm = Path(node()).parents[1] / "lib" / "node_modules" / "npm"
    folder.mkdir()
    (folder / "npx").write_text(f'#!/bin/sh\nexec node {npm}/bin/npx-cli.js "$@"\n')
    (folder / "npx").chmod(0o755)
    return os.pathsep.join(
        [str(folder), str(Path(node()).parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    )
