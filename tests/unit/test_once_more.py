"""What failed is written down, and runs once more alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.once_more import MOST

REPOSITORY = Path(__file__).resolve().parents[2]

CONFTEST = (
    "from tests.conftest import pytest_addoption, pytest_configure, pytest_collection_modifyitems  # noqa: F401\n"
)

SOME_FAIL = """
import pytest

@pytest.mark.parametrize("number", [1, 2, 3])
def test_small(number):
    assert number != 2

def test_other():
    assert True

@pytest.fixture
def broken():
    raise OSError("no such thing")

def test_with_fixture(broken):
    pass
"""

AGAIN = ["test_one.py::test_small[2]", "test_one.py::test_with_fixture"]


def run(folder: Path, text: str, *arguments: str) -> tuple[int, str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_one.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize("processes", ["0", "2"])
def test_what_failed_is_written_down_and_is_all_that_runs_again(tmp_path: Path, processes: str) -> None:
    failed = tmp_path / "failed"
    code, output = run(tmp_path, SOME_FAIL, "-n", processes, f"--failed-to={failed}")
    assert code == 1, output
    assert sorted(failed.read_text().splitlines()) == AGAIN
    code, output = run(tmp_path, SOME_FAIL, "-n", processes, "-n", "0", f"--only-of={failed}")
    assert code == 1, output
    assert "1 failed, 3 deselected, 1 error" in output
    mended = SOME_FAIL.replace("number != 2", "True").replace('raise OSError("no such thing")', "pass")
    code, output = run(tmp_path, mended, f"--only-of={failed}")
    assert code == 0, output
    assert "2 passed, 3 deselected" in output


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(SOME_FAIL.replace("[1, 2, 3]", f"[2] * {MOST}"), id="many"),
        pytest.param(SOME_FAIL + "\nimport nothing_like_it\n", id="not collected"),
        pytest.param("def test_all():\n    pass\n", id="nothing"),
        pytest.param("import pytest\n\ndef test_end():\n    pytest.exit('enough', 3)\n", id="ended"),
    ],
)
def test_what_is_no_chance_is_not_tried_again(tmp_path: Path, text: str) -> None:
    failed = tmp_path / "failed"
    run(tmp_path, text, f"--failed-to={failed}")
    assert failed.read_text() == ""


def test_a_test_that_is_not_there_is_no_success(tmp_path: Path) -> None:
    failed = tmp_path / "failed"
    failed.write_text("test_one.py::test_gone\n")
    code, output = run(tmp_path, SOME_FAIL, f"--only-of={failed}")
    assert code == 4
    assert "test_gone" in output


PASSES_THEN = """
from pathlib import Path

def test_small():
    tried = Path("tried")
    first = not tried.exists()
    tried.touch()
    assert not (first and {fails})

def test_other():
    with open("runs", "a") as runs:
        runs.write("once\\n")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """One whose tests are found by its settings, with ``make test``."""
    project, tests = tmp_path / "project", tmp_path / "project" / "tests"
    tests.mkdir(parents=True)
    (project / "pytest.ini").write_text("[pytest]\ntestpaths = tests\n")
    (project / "Makefile").write_text(f"test:\n\t{sys.executable} -m pytest -q -n 2 -p no:cacheprovider $(ARGS)\n")
    (tests / "conftest.py").write_text(CONFTEST)
    return project


def ci(project: Path, *, seconds: int) -> str:
    """What is named at the end, after ``suite make test`` with the functions of .ci/run. Its files are outside the project."""
    functions = re.findall(
        r"^[a-z]+\(\) \{\n.*?^\}\n", (REPOSITORY / ".ci" / "run").read_text(), re.DOTALL | re.MULTILINE
    )
    outside = project.parent
    names = f'FAILED="{outside}/failed" NAMED="{outside}/named" VENV=.venv LATEST=3600 SECONDS={seconds}'
    ended = subprocess.run(
        ["bash", "-c", "\n".join(["set -euo pipefail", names, ': >"$NAMED"', *functions, "suite make test"])],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return (outside / "named").read_text()


@pytest.mark.parametrize("fails", [True, False])
def test_ci_runs_once_more_what_failed(project: Path, fails: bool) -> None:
    (project / "tests" / "test_one.py").write_text(PASSES_THEN.format(fails=fails))
    named = ci(project, seconds=0)
    assert bool(named) == fails
    assert not fails or (named.startswith("make test: ") and named.endswith(": tests/test_one.py::test_small\n"))
    assert (project / "runs").read_text() == "once\n"


def test_ci_names_what_it_has_no_time_for(project: Path) -> None:
    (project / "tests" / "test_one.py").write_text(PASSES_THEN.format(fails=False))
    assert ci(project, seconds=3600) == "make test: left out, as 60 minutes were over\n"
    assert not (project / "runs").exists()
