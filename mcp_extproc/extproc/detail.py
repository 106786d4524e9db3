"""How much of what is known of a request goes into the dynamic metadata, and into which namespaces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from mcp_extproc.contract import METADATA_KEY, ROUTES_REMOVE
from mcp_extproc.gateway.facts import NATIVE, Metadata
from mcp_extproc.wire import field, struct_of

_MOST = 64
"""Envoy has one for each of its listeners, and some more while it drains old ones."""


class Detail(msgspec.Struct, frozen=True, eq=False):
    """What is written. Compared by identity: there are few, and what was made for one is kept with it."""

    more: tuple[bytes, ...] = ()
    """Namespaces besides :data:`mcp_extproc.contract.NAMESPACE`, as fields of a message."""
    keys: frozenset[str] | None = None
    """The facts that somebody reads; ``None`` if that may be any."""
    native: bytes = struct_of(NATIVE)
    """Entries for all messages, where there are more namespaces."""
    is_logged: bool = True
    """Whether there is an access log, for which ordinary calls are marked."""

    @property
    def routes_remove(self) -> bool:
        """Whether the routes to servers remove what is left to them (:func:`mcp_extproc.gateway.headers.left_to_routes`)."""
        return self.keys is not None and ROUTES_REMOVE in self.keys

    def includes(self, key: str) -> bool:
        """Whether a fact is written."""
        return self.keys is None or key in self.keys

    def entries(self, facts: Metadata) -> bytes:
        """The facts that are written, as the content of a ``Struct``."""
        keys = self.keys
        return struct_of(facts if keys is None else {key: value for key, value in facts.items() if key in keys})


FULL: Final = Detail()
"""All facts, in one namespace."""


class Details:
    """Those of a worker's exchanges. Envoy says with each exchange what reads its facts.

    Args:
        namespaces: further ones for the facts.
        is_logged: whether there is an access log.
    """

    def __init__(self, namespaces: Iterable[str] = (), *, is_logged: bool = True) -> None:
        self.full = Detail(tuple(field(1, name.encode()) for name in namespaces), is_logged=is_logged)
        """All facts."""
        self._known: dict[str | None, Detail] = {None: self.full}

    def of(self, metadata: Mapping[str, str]) -> Detail:
        """How much an exchange has to write.

        Args:
            metadata: of its gRPC call, by lower-case name.
        """
        said = metadata.get(METADATA_KEY)
        return self._known.get(said) or self._new(said or "")

    def _new(self, said: str) -> Detail:
        # Where there is no room for one more, all is written: nothing may be left out that somebody reads.
        if len(self._known) >= _MOST or (keys := _keys(said)) is None:
            return self.full
        native = struct_of({key: value for key, value in NATIVE.items() if key in keys})
        self._known[said] = new = Detail(self.full.more, keys, native, self.full.is_logged)
        return new


def _keys(said: str) -> frozenset[str] | None:
    """The keys in the value of :data:`METADATA_KEY`; ``None`` if it does not say them all.

    >>> sorted(_keys("method;id_json,server") or ())
    ['id_json', 'method', 'server']
    >>> _keys("method;")
    """
    by_listener, _, by_routes = said.partition(";")
    # Envoy may put a dash in the place of what is not there.
    if by_routes.strip() in ("", "-"):
        return None
    return frozenset(key for key in (*by_listener.split(","), *by_routes.split(",")) if key)
