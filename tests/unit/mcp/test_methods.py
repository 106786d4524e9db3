"""The table of methods holds together."""

from __future__ import annotations

from mcp_extproc.mcp import methods
from mcp_extproc.mcp.methods import Handling


def test_rows_are_found_by_their_name() -> None:
    for table in (methods.REQUESTS, methods.NOTIFICATIONS):
        assert all(row.name == name for name, row in table.items())


def test_what_is_listed_says_where_the_entries_are_and_who_has_them() -> None:
    for row in methods.REQUESTS.values():
        if row.handling is Handling.LIST:
            assert row.items
            assert row.capability


def test_only_notifications_are_called_so() -> None:
    assert all(name.startswith("notifications/") for name in methods.NOTIFICATIONS)
    assert not any(name.startswith("notifications/") for name in [*methods.REQUESTS, *methods.MODERN_ONLY])


def test_no_capability_is_promised_whose_methods_are_not_served() -> None:
    assert set(methods.SERVED_CAPABILITIES) == {"tools"}
    assert set(methods.RELAYED_CLIENT_CAPABILITIES) == set()


def test_methods_of_later_versions_are_not_served() -> None:
    assert methods.MODERN_ONLY.isdisjoint(methods.REQUESTS)
