"""``make matrix``: which interpreters it takes, and that it never passes over one in silence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import matrix


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without Python: the folders ``bin``, on the PATH, and ``pyenv``."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    return tmp_path


def put(path: Path, script: str) -> str:
    """A program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_one_on_the_path(machine: Path) -> None:
    program = put(machine / "bin" / "python3.12", "echo 3.12")
    assert matrix.find("3.12") == program
    assert matrix.find("3.13") is None


def test_a_shim_that_does_not_start_is_passed_over_for_pyenvs_own(machine: Path) -> None:
    put(machine / "bin" / "python3.12", "exit 127")
    program = put(machine / "pyenv" / "versions" / "3.12.1" / "bin" / "python3.12", "echo 3.12")
    assert matrix.find("3.12") == program


def test_one_that_is_another_version_is_not_taken(machine: Path) -> None:
    put(machine / "bin" / "python3.12", "echo 3.11")
    assert matrix.find("3.12") is None


def test_the_question_is_answered_by_a_real_interpreter(machine: Path) -> None:
    version = "{}.{}".format(*sys.version_info)
    (machine / "bin" / f"python{version}").symlink_to(sys.executable)
    assert matrix.find(version) == str(machine / "bin" / f"python{version}")


def test_one_is_found_for_others(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = put(machine / "bin" / "python3.12", "echo 3.12")
    for version, printed in {"3.12": program, "3.13": ""}.items():
        monkeypatch.setattr(sys, "argv", ["matrix.py", "--find", version])
        with pytest.raises(SystemExit) as ended:
            matrix.main()
        assert (bool(ended.value.code), capsys.readouterr().out) == (not printed, f"{printed}\n")


def test_what_was_left_out_is_said(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(machine / "bin" / "python3.11", "echo 3.11")
    put(machine / "bin" / "python3.13", "echo 3.13")
    asked = _make_returns(0, monkeypatch)
    lines, good = matrix.run(matrix.VERSIONS, ".venv")
    assert good
    assert [line.partition(" (")[0] for line in lines] == [
        "Python 3.11: passed",
        "Python 3.12: LEFT OUT, not installed",
        "Python 3.13: passed",
    ]
    assert [command[-1] for command in asked] == ["VENV=.venv-3.11", "VENV=.venv-3.13"]
    assert all("ARGS=" in command for command in asked), "pytest does not get what the matrix was told"


def test_a_failure_fails(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = put(machine / "bin" / "python3.11", "echo 3.11")
    _make_returns(2, monkeypatch)
    assert matrix.run(["3.11"], ".venv") == ([f"Python 3.11: FAILED ({program})"], False)


def test_where_nothing_ran_nothing_passed() -> None:
    assert matrix.run(["3.11"], ".venv")[1] is False


def _make_returns(code: int, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Have ``make`` end with this code. Returns what it is asked."""
    asked: list[list[str]] = []
    real = subprocess.run

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        if command[0] != "make":
            return real(command, **options)  # type: ignore[call-overload, no-any-return]
        asked.append(command)
        return subprocess.CompletedProcess(command, code, "")

    monkeypatch.setattr(subprocess, "run", run)
    return asked
