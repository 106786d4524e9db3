"""The pages about the formats name every key that is read, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mcp_extproc.config.kubernetes.documents import KINDS
from mcp_extproc.config.mcp_servers import RESTRICTING
from mcp_extproc.config.problems import section_of
from mcp_extproc.config.server_entry import CLIENT_KEYS, KEYS
from tests.unit.config.kubernetes.keys import keys

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ["mcp-route.md", "kuadrant.md"]

_SECTION = re.compile(r"^## ([A-Za-z]+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| ((?:`[^`|]+`(?:, )?)+) \| (.+) \|$", re.MULTILINE)


def sections() -> dict[str, str]:
    return {name: text for page in PAGES for name, text in _SECTION.findall((DOCS / page).read_text(encoding="utf-8"))}


def told(section: str) -> list[str]:
    """The keys in the first column of a table."""
    return [key for cells, _ in _ROW.findall(section) for key in re.findall(r"`([^`]+)`", cells)]


def test_every_key_of_agents_files_is_told_once() -> None:
    named = told((DOCS / "mcp-servers.md").read_text(encoding="utf-8"))
    at_the_top = ["mcpServers", "servers", "inputs", "mcp.allowed", "mcp.excluded", *RESTRICTING]
    assert sorted(named) == sorted([*at_the_top, *KEYS, *CLIENT_KEYS])


def test_every_kind_has_a_section() -> None:
    assert sections().keys() >= KINDS.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_told_once(kind: str) -> None:
    model = KINDS[kind].model
    spec = section_of(model.model_fields["spec"].annotation) if "spec" in model.model_fields else None
    read = set(keys(spec or model))
    named = told(sections()[kind])
    assert len(set(named)) == len(named)
    wholes = [key.removesuffix("*") for key in named if key.endswith("*")]
    left = {key for key in read if not any(key.startswith(whole) for whole in wholes)}
    assert left == {key for key in named if not key.endswith("*")}
    assert all(any(key.startswith(whole) for key in read) for whole in wholes)
