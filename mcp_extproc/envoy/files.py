"""Envoy's files, rendered: what is in them, and how they are written. Nothing that renders them is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mcp_extproc.envoy.layout import SECRETS_START

BOOTSTRAP = "envoy.json"
CLUSTERS = "cds.json"
LISTENERS = "lds.json"


@dataclass(frozen=True, slots=True)
class File:
    """One file."""

    name: str
    text: bytes = field(repr=False)
    version: str = ""
    """Value of Envoy's statistic ``STAT.version_text`` once it has applied the content of a watched file."""
    stat: str = ""
    secrets: tuple[str, ...] | None = field(default=None, repr=False)
    """Credentials in it: only its owner may read it. ``None`` where there never are any."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The whole configuration, as files."""

    bootstrap: File
    """The bootstrap, which Envoy reads once when it starts."""
    clusters: File
    routes: tuple[File, ...]
    """One for each listener. Their clusters have to exist first."""
    listeners: File
    """Their routes have to exist first."""
    secrets: tuple[File, ...] = ()
    """Secrets of ours. Clusters and listeners read them, so they have to exist first; Envoy says nothing about them."""

    @property
    def watched(self) -> tuple[File, ...]:
        """The watched files, in an order in which nothing is referenced before it exists."""
        return (self.clusters, *self.routes, self.listeners)


def write_secrets(directory: Path, files: Sequence[File], *, alone: bool = False) -> None:
    """Write files with secrets.

    Args:
        directory: for them.
        files: all that are needed.
        alone: whether others, which are not needed any more, go.

    Raises:
        OSError: one can't be written, or removed.
    """
    for file in files:
        write(directory, file)
    if alone:
        kept = {file.name for file in files}
        for path in directory.glob(f"{SECRETS_START}*.json"):
            if path.name not in kept:
                path.unlink(missing_ok=True)


def write(directory: Path, file: File) -> bool:
    """Write a file atomically if its content has changed. Envoy applies a file when it is moved to its name.

    Returns:
        Whether it was written.

    Raises:
        OSError: the file can't be written. It names the file, and the one before is still there.
    """
    path = directory / file.name
    if path.exists() and path.read_bytes() == file.text:
        return False
    new = path.with_name(f".{file.name}.new")
    try:
        if file.secrets is not None:
            new.unlink(missing_ok=True)
            new.touch(mode=0o600, exist_ok=False)
        new.write_bytes(file.text)
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)  # half a file, of what may be the last space on the disk
        raise OSError(error.errno, error.strerror, str(path)) from None
    return True
