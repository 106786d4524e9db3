"""Fixtures that the tests with containers share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.processes import ROOT


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What containers have of the folder ``compose``."""
    folder = tmp_path_factory.mktemp("compose") / "mounted"
    shutil.copytree(ROOT / "compose", folder)
    return folder
