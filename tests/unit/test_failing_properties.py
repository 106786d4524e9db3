"""A property that does not hold fails its test, and not the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROPERTY = """
from hypothesis import given
from hypothesis import strategies as st

@given(st.integers())
def test_property(number: int) -> None:
    assert number < 5
"""
WARNS = "import warnings; warnings.warn('it is old', DeprecationWarning)"
"""What packages do with which hypothesis would write a patch."""


def test_a_property_that_does_not_hold_is_reported_whatever_else_is_installed(tmp_path: Path) -> None:
    (tmp_path / "libcst.py").write_text(WARNS)
    (tmp_path / "test_it.py").write_text(PROPERTY)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "tests.conftest", "test_it.py"]
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    assert "number=5" in done.stdout, done.stdout + done.stderr
    assert "INTERNALERROR" not in done.stdout + done.stderr
    assert done.returncode == 1
    assert not (tmp_path / ".hypothesis").exists()
