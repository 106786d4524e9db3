"""Which responses are read, and that Envoy is asked for the head of each that is."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from mcp_extproc.gateway.relay.identifiers import ClientView
from mcp_extproc.gateway.relay.reading import may_read, reads_events, reads_json
from mcp_extproc.mcp import methods, versions
from tests.unit.gateway.support import EVERYTHING, LATEST, catalog_of, config, upstream

TWO = catalog_of(config())
CALL = methods.REQUESTS["tools/call"]


@pytest.mark.parametrize("sections", [{}, {"resources": "unprefixed"}])
@pytest.mark.parametrize("flags", [frozenset(), frozenset({"elicitation", "elicitation.url"})])
def test_what_is_read_is_ordered(flags: frozenset[str], sections: dict[str, Any]) -> None:
    """Whatever the client, the server and the method are like, and nothing is ordered that no method needs."""
    catalog = catalog_of(config(**sections))
    forwarded = [row for row in methods.REQUESTS.values() if row.is_for_one_server]
    for version, other, offered, id in product(
        versions.SUPPORTED, versions.SUPPORTED, (("tools",), EVERYTHING), ("", None)
    ):
        view = ClientView("s", version, flags)
        sessions = {name: upstream(name, other, offered, id) for name in "ab"}
        needed = any(
            reads_events(view, session)
            or reads_json(row, view, catalog, session, has_resources="resources" in session.capabilities)
            for session in sessions.values()
            for row in forwarded
        )
        assert may_read(view, catalog, sessions) == needed, (version, other, offered, id)


def test_a_server_that_nobody_knows_may_be_like_any() -> None:
    view = ClientView("s", LATEST, frozenset())
    known = upstream("a", id=None)
    assert not may_read(view, TWO, {"a": known, "b": upstream("b", id=None)})
    assert may_read(view, TWO, {"a": known})


def test_a_server_that_is_not_configured_any_more_counts_for_nothing() -> None:
    view = ClientView("s", LATEST, frozenset())
    sessions = {"a": upstream("a", id=None), "b": upstream("b", id=None), "gone": upstream("gone")}
    assert not may_read(view, TWO, sessions)


def test_an_older_client_reads_what_a_newer_server_says_otherwise() -> None:
    """JSON has blocks that 2025-03-26 does not know. Later versions differ in nothing that is forwarded."""
    server = upstream("a", "2025-11-25", id=None)
    assert reads_json(CALL, ClientView("s", "2025-03-26", frozenset()), TWO, server, has_resources=False)
    assert not reads_json(CALL, ClientView("s", "2025-06-18", frozenset()), TWO, server, has_resources=False)
