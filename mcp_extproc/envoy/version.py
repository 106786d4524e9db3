"""Which Envoy reads the configurations that are rendered here, and who is too old for them.

An older one ends at start, with a message about a type that it does not know. So its version is named before it gets that far.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Version(NamedTuple):
    """A release of Envoy's."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


OLDEST = Version(1, 38, 0)
"""``HttpResponseLocalReplyMatchInput``, by which a server's own answers are told from Envoy's, is new in 1.38."""

_NUMBERS = re.compile(r"(?<![\w.])v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(?!\.?\d)")


class EnvoyTooOld(Exception):
    """An Envoy older than :data:`OLDEST`. ``str()`` names both versions."""


def version_in(text: str) -> Version | None:
    """The version in what Envoy says of itself, or in what people call one; ``None`` where there is none.

    >>> str(version_in("envoy  version: 9e5580933739775e/1.40.0/Clean/RELEASE/BoringSSL"))
    '1.40.0'
    >>> str(version_in("distroless-v1.38-latest"))
    '1.38.0'
    """
    # `--version` starts with the path of the binary, which may have numbers of its own.
    found = _NUMBERS.search(text.rpartition("version:")[2])
    return Version(int(found[1]), int(found[2]), int(found[3] or 0)) if found is not None else None


def require(version: Version, whose: str = "") -> None:
    """Refuse an Envoy that is too old.

    Args:
        version: what it is.
        whose: where it is, for the error.

    Raises:
        EnvoyTooOld: it is.
    """
    if version < OLDEST:
        place = f" ({whose})" if whose else ""
        raise EnvoyTooOld(
            f"Envoy {version}{place} is too old for the gateway's configuration: the oldest that reads it is"
            f" {OLDEST.major}.{OLDEST.minor}. Use a newer Envoy"
        )
