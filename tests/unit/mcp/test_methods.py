"""The table of methods: every row, against the schema of each version, and that it holds together."""

from __future__ import annotations

import json

import pytest

from mcp_extproc.mcp import capabilities, jsontext, methods
from mcp_extproc.mcp.methods import Entry, Handling, Method

# (method, handling, capability of servers, member with the entries, what an entry is known by)
REQUESTS = [
    ("initialize", Handling.INITIALIZE, None, None, None),
    ("ping", Handling.ANSWER, None, None, None),
    ("tools/list", Handling.LIST, "tools", "tools", Entry.NAME),
    ("tools/call", Handling.BY_NAME, "tools", None, None),
    ("prompts/list", Handling.LIST, "prompts", "prompts", Entry.NAME),
    ("prompts/get", Handling.BY_NAME, "prompts", None, None),
    ("resources/list", Handling.LIST, "resources", "resources", Entry.URI),
    ("resources/templates/list", Handling.LIST, "resources", "resourceTemplates", Entry.TEMPLATE),
    ("resources/read", Handling.BY_URI, "resources", None, None),
    ("resources/subscribe", Handling.BY_URI, "resources.subscribe", None, None),
    ("resources/unsubscribe", Handling.BY_URI, "resources.subscribe", None, None),
    ("completion/complete", Handling.BY_REF, "completions", None, None),
    ("logging/setLevel", Handling.SET_LEVEL, "logging", None, None),
]  # fmt: skip

# (notification, handling, flag of the client)
NOTIFICATIONS = [
    ("notifications/initialized", Handling.DROP, None),
    ("notifications/cancelled", Handling.CANCEL, None),
    ("notifications/progress", Handling.BY_PROGRESS, None),
    ("notifications/roots/list_changed", Handling.BROADCAST, "roots"),
]

SERVER_REQUESTS = [
    ("ping", None),
    ("sampling/createMessage", "sampling"),
    ("elicitation/create", "elicitation"),
    ("roots/list", "roots"),
]


def test_every_row_of_requests() -> None:
    """ClientRequest of 2025-03-26 to 2025-11-25, but for tasks, which are not offered."""
    rows = [(row.name, row.handling, row.capability, row.items, row.entry) for row in methods.REQUESTS.values()]
    assert rows == REQUESTS
    assert all(row.client_flag is None for row in methods.REQUESTS.values())


def test_every_row_of_notifications() -> None:
    """ClientNotification, but for notifications/tasks/status."""
    rows = [(row.name, row.handling, row.client_flag) for row in methods.NOTIFICATIONS.values()]
    assert rows == NOTIFICATIONS


def test_every_row_of_requests_of_servers() -> None:
    """ServerRequest, but for tasks."""
    assert [(row.name, row.client_flag) for row in methods.SERVER_REQUESTS.values()] == SERVER_REQUESTS


def test_rows_are_found_by_their_name() -> None:
    for table in (methods.REQUESTS, methods.NOTIFICATIONS, methods.SERVER_REQUESTS):
        assert all(row.name == name for name, row in table.items())


def test_what_is_listed_says_where_the_entries_are_and_who_has_them() -> None:
    for row in methods.REQUESTS.values():
        is_list = row.handling is Handling.LIST
        assert (row.items is not None, row.entry is not None) == (is_list, is_list)
        assert row.capability or not is_list


def test_only_notifications_are_called_so() -> None:
    assert all(name.startswith("notifications/") for name in methods.NOTIFICATIONS)
    modern = (name for name in methods.FROM_CLIENTS if methods.only_modern(name))
    others = [*methods.REQUESTS, *methods.SERVER_REQUESTS, *modern]
    assert not any(name.startswith("notifications/") for name in others)


def test_what_is_promised_is_served_and_the_other_way_round() -> None:
    needed = {row.capability for row in methods.REQUESTS.values() if row.capability}
    assert {flag.partition(".")[0] for flag in needed} == set(capabilities.SERVED)


def test_every_notification_of_a_changed_list_is_about_lists() -> None:
    assert methods.LIST_CHANGED == {
        "tools": "notifications/tools/list_changed",
        "prompts": "notifications/prompts/list_changed",
        "resources": "notifications/resources/list_changed",
    }
    assert {row.capability for row in methods.REQUESTS.values() if row.items} == methods.LIST_CHANGED.keys()


def test_methods_of_later_versions_are_not_served() -> None:
    assert not any(map(methods.only_modern, methods.REQUESTS))
    assert methods.only_modern("server/discover")


def test_log_levels_come_in_the_order_of_their_severity() -> None:
    """RFC 5424 section 6.2.1."""
    assert methods.LOG_LEVELS == ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")


# -- Where URIs stand ---------------------------------------------------------------------------------------------------------

BLOCKS = [
    '{"type":"resource","resource":{"uri":"URI","text":"t"}}',
    '{"type":"resource_link","name":"n","uri":"URI"}',
    # Not every member of this name is a URI of the server's.
    '{"type":"text","text":"uri","annotations":{"uri":"stays"}}',
]
CONTENT = "[" + ",".join(BLOCKS) + "]"
VIEW = '{"ui":{"resourceUri":"URI","x":1},"ui/resourceUri":"URI","openai/outputTemplate":"URI","uri":"stays"}'

RESULTS: dict[str, str] = {
    "tools/call": '{"content":CONTENT,"structuredContent":{"uri":"stays","content":[{"uri":"stays"}]},"_meta":VIEW}',
    "prompts/get": '{"messages":[' + ",".join(f'{{"role":"user","content":{block}}}' for block in BLOCKS) + "]}",
    "resources/read": '{"contents":[{"uri":"URI","text":"stays"},{"uri":"URI","blob":""}],"uri":"stays"}',
}
REQUEST_PARAMS = {
    # Results of tools, which have blocks of their own: one, or (2025-11-25) several in one message.
    "sampling/createMessage": '{"messages":[{"content":{"type":"tool_result","content":CONTENT}},'
    '{"content":[{"content":CONTENT},{"content":CONTENT}]}]}',
}


def change(uri: str) -> str:
    return "changed" if uri == "URI" else f"{uri} by mistake"


def filled(text: str | None) -> str | None:
    return None if text is None else text.replace("CONTENT", CONTENT).replace("VIEW", VIEW)


def edited(text: str, row: Method | methods.ServerMethod) -> object:
    found = jsontext.edit(text.encode(), row.uris, change)
    return json.loads(found if found is not None else text)


@pytest.mark.parametrize("row", methods.REQUESTS.values(), ids=lambda row: row.name)
def test_where_uris_stand_in_results(row: Method) -> None:
    text = filled(RESULTS.get(row.name))
    assert (row.uris is not None) == (text is not None)
    if text is not None:
        assert edited(text, row) == json.loads(text.replace("URI", "changed"))


@pytest.mark.parametrize("row", methods.SERVER_REQUESTS.values(), ids=lambda row: row.name)
def test_where_uris_stand_in_requests_of_servers(row: methods.ServerMethod) -> None:
    text = filled(REQUEST_PARAMS.get(row.name))
    assert (row.uris is not None) == (text is not None)
    if text is not None:
        assert edited(text, row) == json.loads(text.replace("URI", "changed"))


def test_where_uris_stand_in_entries_of_lists_and_in_errors() -> None:
    entry = f'{{"name":"n","uri":"stays","_meta":{VIEW}}}'
    found = jsontext.edit(entry.encode(), methods.LIST_ENTRY_URIS, change)
    assert found is not None
    assert json.loads(found) == json.loads(entry.replace("URI", "changed"))
    error = b'{"code":-32002,"message":"URI","data":{"uri":"URI"}}'
    assert (
        jsontext.edit(error, methods.ERROR_URIS, change) == b'{"code":-32002,"message":"URI","data":{"uri":"changed"}}'
    )
