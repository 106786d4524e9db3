"""Which JSON is read, and who is asked not to compress. Event streams always are read."""

from __future__ import annotations

import pytest

from mcp_extproc.gateway.relay.identifiers import ClientView
from mcp_extproc.gateway.relay.reading import is_asked_for_plain_text, reads_json
from mcp_extproc.mcp import methods
from tests.unit.gateway.support import LATEST, catalog_of, config, upstream

TWO = catalog_of(config())
CALL = methods.REQUESTS["tools/call"]
NOBODY = frozenset[str]()


def test_an_older_client_reads_what_a_newer_server_says_otherwise() -> None:
    """JSON has blocks that 2025-03-26 does not know. Later versions differ in nothing that is forwarded."""
    server = upstream("a", "2025-11-25", id=None)
    assert reads_json(CALL, ClientView("s", "2025-03-26", NOBODY), TWO, "a", server, has_resources=False)
    assert not reads_json(CALL, ClientView("s", "2025-06-18", NOBODY), TWO, "a", server, has_resources=False)


def test_of_a_server_that_is_not_trusted_everything_is_read() -> None:
    catalog, view = catalog_of(config({"a": {"untrusted": True}, "b": {}})), ClientView("s", LATEST, NOBODY)
    for method in (row for row in methods.REQUESTS.values() if row.is_for_one_server):
        assert reads_json(method, view, catalog, "a", upstream("a"), has_resources=False)
        assert not reads_json(method, view, catalog, "b", upstream("b"), has_resources=False)


def test_results_that_may_name_hidden_resources_are_read() -> None:
    view = ClientView("s", LATEST, NOBODY)
    for method in (row for row in methods.REQUESTS.values() if row.is_for_one_server):
        for hides in (True, False):
            read = reads_json(method, view, TWO, "a", upstream("a"), has_resources=False, hides_resources=hides)
            assert read is (hides and (method.has_content or method.handling is not methods.Handling.BY_NAME))


@pytest.mark.parametrize(
    ("session_id", "flags", "json", "plain"),
    [
        ("1", NOBODY, False, True),
        (None, {"roots"}, False, True),
        (None, NOBODY, True, True),
        (None, NOBODY, False, False),
    ],
)
def test_what_may_be_compressed(session_id: str | None, flags: frozenset[str], json: bool, plain: bool) -> None:
    view = ClientView("s", LATEST, frozenset(flags))
    assert is_asked_for_plain_text(view, upstream("a", id=session_id), reads_json=json) is plain
