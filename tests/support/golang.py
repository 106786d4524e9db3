"""Programs in Go, built once for all tests below ``.cache/go``."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.support.processes import ROOT


def built(source: str) -> str:
    """The path of a program.

    Args:
        source: its package and version, as ``go install`` takes them.
    """
    return _built(source.partition("@")[0].rpartition("/")[2], source, source, ROOT)


def built_here(folder: Path) -> str:
    """The same of a program whose module is in a folder of this repository, with the versions in its ``go.sum``."""
    files = sorted(file for file in folder.iterdir() if file.suffix in (".go", ".mod", ".sum"))
    state = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return _built(folder.name, ".", state, folder)


def _built(name: str, package: str, state: str, folder: Path) -> str:
    """Build it, unless what is there was built from the same ``state``."""
    cache = ROOT / ".cache" / "go"
    cache.mkdir(parents=True, exist_ok=True)
    binary, done = cache / "bin" / name, cache / f"{name}.built"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes at once
        if not binary.exists() or not done.exists() or done.read_text() != state:
            go = shutil.which("go")
            assert go is not None, "go is missing: install Go 1.26 or newer"
            where = {**os.environ, "GOPATH": str(cache), "GOBIN": str(binary.parent), "GOFLAGS": "-modcacherw"}
            subprocess.run([go, "install", package], cwd=folder, env=where, check=True, timeout=900)
            done.write_text(state)
    return str(binary)
