"""The fast tests on every supported Python that this machine has. ``make matrix`` calls this, without any package.

    python tests/matrix.py [--venv .venv] [--python 3.12 ...]
    python tests/matrix.py --find 3.13

Each interpreter gets an environment of its own beside the given one: ``.venv-3.12``. The second form only prints where one is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
"""Those that pyproject.toml promises. tests/unit/test_packaging.py compares."""

LOOKED_FOR = "python{0} on the PATH, and {0}.* among pyenv's versions"


def find(version: str) -> str | None:
    """The program of one version of Python, ``None`` where there is none."""
    return next((program for program in _candidates(version) if _is(program, version)), None)


def _candidates(version: str) -> Iterator[str]:
    name = f"python{version}"
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        if (found := shutil.which(name, path=folder)) is not None:
            yield found
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for program in sorted(pyenv.glob(f"versions/{version}.*/bin/{name}"), reverse=True):
        yield str(program)


def _is(program: str, version: str) -> bool:
    """Whether it runs, and can make environments. pyenv's shims are there for versions that it then refuses to start."""
    code = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([program, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == version


def run(versions: Sequence[str], venv: str) -> tuple[list[str], bool]:
    """Run the fast tests on each version: a line about each, and whether any ran and none failed."""
    lines, passed = [], []
    for version in versions:
        program = find(version)
        if program is None:
            lines.append(f"Python {version}: LEFT OUT, not installed ({LOOKED_FOR.format(version)})")
            continue
        print(f"Python {version}: {program}", flush=True)
        # A make around us hands its variables on: ARGS are ours, not pytest's.
        command = ["make", "unit", "ARGS=", f"PYTHON={program}", f"VENV={venv}-{version}"]
        done = subprocess.run(command, cwd=ROOT, check=False)
        passed.append(done.returncode == 0)
        lines.append(f"Python {version}: {'passed' if passed[-1] else 'FAILED'} ({program})")
    return lines, bool(passed) and all(passed)


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the fast tests on several versions of Python.")
    parser.add_argument("--venv", default=".venv", help="environments are beside this one, -3.12 and so on added")
    parser.add_argument("--python", action="append", choices=VERSIONS, help="only this version; may be repeated")
    parser.add_argument("--find", choices=VERSIONS, help="print the program of this version, and run nothing")
    arguments = parser.parse_args()
    if arguments.find:
        print(program := find(arguments.find) or "")
        sys.exit(not program)
    lines, good = run(arguments.python or VERSIONS, arguments.venv)
    print("\n".join(lines))
    sys.exit(not good)


if __name__ == "__main__":
    main()
