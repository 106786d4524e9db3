"""What the project says of itself in several places, held together."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcp_extproc import __version__
from tests.matrix import VERSIONS

ROOT = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
FORMS = [path for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")) if path.name != "config.yml"]


def test_the_version_stands_in_one_place() -> None:
    assert "version" not in PYPROJECT["project"]
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"] == {"version": {"attr": "mcp_extproc.__version__"}}
    files = [*(ROOT / "mcp_extproc").rglob("*.py"), ROOT / "pyproject.toml", ROOT / "Dockerfile", ROOT / "Makefile"]
    assert [path for path in files if f'"{__version__}"' in path.read_text(encoding="utf-8")] == [
        ROOT / "mcp_extproc" / "__init__.py"
    ]


def test_the_changelog_has_the_version_and_what_comes_next() -> None:
    """Keep a Changelog: Unreleased first, then the releases with their days, the newest first."""
    headings = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", heading) for heading in headings[1:])
    assert headings[1].startswith(f"[{__version__}] - ")
    assert re.findall(r"^### (.*)$", CHANGELOG, re.MULTILINE)
    assert set(re.findall(r"^### (.*)$", CHANGELOG, re.MULTILINE)) <= {
        "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security",
    }  # fmt: skip


def test_the_matrix_has_the_versions_that_the_package_promises() -> None:
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(PYPROJECT["project"]["classifiers"]))
    assert tuple(promised) == VERSIONS
    assert PYPROJECT["project"]["requires-python"] == f">={VERSIONS[0]}"


def recipe(target: str) -> list[str]:
    """The commands of a target of the Makefile."""
    found = re.search(rf"^{target}:[^\n]*\n((?:\t[^\n]*\n)*)", MAKEFILE, re.MULTILINE)
    assert found is not None
    return [line.strip().replace("$(BIN)", ".venv/bin") for line in found[1].splitlines()]


def planned(target: str, folder: Path, stderr: int) -> str:
    """What make would do for a target in a fresh checkout, with such a standard error."""
    command = ["make", "--no-print-directory", "-n", target, f"VENV={folder / 'venv'}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True, check=True
    ).stdout


def test_the_first_run_shows_what_it_does_to_those_who_wait_at_a_terminal(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    try:
        shown = planned("run", tmp_path, slave)
    finally:
        os.close(slave)
        os.close(master)
    assert re.search(r'^echo "The first time: ', shown, re.MULTILINE)
    assert "pip  --disable" in shown
    piped = planned("run", tmp_path, subprocess.DEVNULL)
    assert not re.search(r"^echo", piped, re.MULTILINE)
    assert [line for line in piped.splitlines() if " -m pip " in line and "--quiet" not in line] == []


def paths(target: str) -> set[str]:
    """The folders of tests that a target runs."""
    return {word for line in recipe(target) for word in line.split() if word.startswith("tests/")}


def test_commits_are_checked_as_make_lint_does() -> None:
    [local] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [hook["entry"] for hook in local["hooks"]] == recipe("lint")


def test_ci_runs_every_target_that_tests() -> None:
    """Apart from the parts of ``make test``, and from what is compared with the last release before the next one."""
    steps = set(
        re.findall(
            r"^\s*(?:CI=true )?(?:suite |once )?make ([a-z0-9-]+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE
        )
    )
    targets = re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.MULTILINE)
    tests = {target for target in targets if any("-m pytest" in line for line in recipe(target))}
    assert {"test", "coverage", "e2e", "conformance"} <= tests
    assert tests - {"unit", "e2e", "fleet"} | {"matrix"} == steps
    assert "`make fleet LAST=" in (ROOT / "RELEASING.md").read_text(encoding="utf-8")
    assert paths("coverage") == paths("unit")
    assert paths("coverage") | paths("e2e") == set(PYPROJECT["tool"]["pytest"]["ini_options"]["testpaths"])


@pytest.mark.parametrize("file", FORMS, ids=lambda path: path.name)
def test_the_forms_for_issues_are_forms(file: Path) -> None:
    """As GitHub takes them: name, description and body, and an id and a label for whatever is asked."""
    form = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    asked = [item for item in form["body"] if item["type"] != "markdown"]
    assert asked
    assert all(item["attributes"]["label"] for item in asked)
    assert len({item["id"] for item in asked}) == len(asked)
