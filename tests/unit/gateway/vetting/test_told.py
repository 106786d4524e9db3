"""What one worker tells another: hidden, and taken from nobody else."""

from __future__ import annotations

import pytest

from mcp_extproc.gateway.vetting import told
from mcp_extproc.gateway.vetting.told import NotTold, Told
from tests.unit.gateway.support import Rig

ABOUT = Told("caller", "github", "delete", b'"gh__delete"', 120.0, True, mark=("x-mcp-owner", "sealed"))


def test_it_comes_back_as_it_was() -> None:
    text = told.written(Rig().gateway.identifiers, ABOUT)
    assert "delete" not in text
    assert told.read(Rig().gateway.identifiers, text) == ABOUT


def test_nothing_else_is_taken() -> None:
    here = Rig().gateway.identifiers
    other = told.written(Rig(secret="another secret, as long as the first one").gateway.identifiers, ABOUT)
    for text in ("", "x", other, here.hidden(b"x"), told.written(here, ABOUT)[:-1]):
        with pytest.raises(NotTold):
            told.read(here, text)
