"""Programs in Go, built once for all tests below ``.cache/go``."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess

from tests.support.processes import ROOT


def built(source: str) -> str:
    """The path of a program.

    Args:
        source: its package and version, as ``go install`` takes them.
    """
    cache = ROOT / ".cache" / "go"
    cache.mkdir(parents=True, exist_ok=True)
    name = source.partition("@")[0].rpartition("/")[2]
    binary, done = cache / "bin" / name, cache / f"{name}.built"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes at once
        if not binary.exists() or not done.exists() or done.read_text() != source:
            go = shutil.which("go")
            assert go is not None, "go is missing: install Go 1.25 or newer"
            where = {**os.environ, "GOPATH": str(cache), "GOBIN": str(binary.parent), "GOFLAGS": "-modcacherw"}
            subprocess.run([go, "install", source], env=where, check=True, timeout=900)
            done.write_text(source)
    return str(binary)
