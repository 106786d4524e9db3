"""Programs of Debian's packages: those that are installed, or else unpacked below ``.cache/debian``, which needs no root."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

from tests.support.processes import ROOT


def program(name: str, package: str) -> str:
    """The path of a program.

    Args:
        name: of the program.
        package: that has it, and needs no other one for it.
    """
    installed = shutil.which(name)
    return installed if installed is not None else _unpacked(name, package)


def _unpacked(name: str, package: str) -> str:
    cache = ROOT / ".cache" / "debian" / package
    cache.mkdir(parents=True, exist_ok=True)
    binary = cache / "usr" / "bin" / name
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes at once
        if not binary.exists():
            assert shutil.which("apt-get") is not None, f"{name} is missing: install {package}"
            try:
                _download(package, cache)
            except subprocess.CalledProcessError:  # it knows no packages yet
                subprocess.run(["apt-get", "-qq", "update"], check=True, timeout=300)
                _download(package, cache)
    return str(binary)


def _download(package: str, cache: Path) -> None:
    # As root it would like to be somebody else, who may not write here.
    subprocess.run(
        ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package], cwd=cache, check=True, timeout=300
    )
    [archive] = cache.glob(f"{package}_*.deb")
    subprocess.run(["dpkg-deb", "--extract", archive, cache], check=True, timeout=300)
    archive.unlink()
