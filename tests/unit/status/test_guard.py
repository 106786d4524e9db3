"""Who may ask the page."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mcp_extproc.status.guard import HEADERS, SELF_HEADER, refusal

HOST = {"host": "127.0.0.1:9901"}
MINE = {**HOST, "origin": "http://127.0.0.1:9901", "sec-fetch-site": "same-origin", SELF_HEADER: ""}


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", HOST),
        ("GET", {"host": "localhost:4000"}),  # a forwarded port (ssh -L)
        ("GET", {"host": "[::1]:9901"}),
        ("GET", {"host": "localhost"}),
        ("GET", {**HOST, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}),  # somebody follows a link
        ("POST", MINE),
        ("POST", {**HOST, SELF_HEADER: ""}),  # a program
    ],
)
def test_who_is_let_in(method: str, headers: Mapping[str, str]) -> None:
    assert refusal(method, "/", headers) is None


@pytest.mark.parametrize(
    ("method", "headers", "why"),
    [
        ("GET", {}, "for this machine"),
        ("GET", {"host": ""}, "for this machine"),
        ("GET", {"host": "evil.example:9901"}, "for this machine"),
        ("GET", {"host": "127.0.0.1.evil.example:9901"}, "for this machine"),
        ("GET", {"host": "10.0.0.1:9901"}, "for this machine"),
        ("GET", {"host": "evil.example@127.0.0.1:9901"}, "for this machine"),
        ("GET", {"host": "127.0.0.1:x"}, "for this machine"),
        ("GET", {**HOST, "origin": "http://evil.example"}, "another origin"),
        ("GET", {**HOST, "origin": "http://127.0.0.1:9902"}, "another origin"),
        ("GET", {**HOST, "origin": "https://127.0.0.1:9901"}, "another origin"),
        ("GET", {**HOST, "origin": "null"}, "another origin"),
        ("GET", {**HOST, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, "another site"),
        ("GET", {**HOST, "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, "another site"),
        ("POST", {**MINE, "host": "localhost:9901"}, "another origin"),
        ("POST", {name: value for name, value in MINE.items() if name != "origin"}, "no Origin"),
        ("POST", {name: value for name, value in MINE.items() if name != SELF_HEADER}, SELF_HEADER),
        ("POST", {**MINE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, "another site"),
        ("OPTIONS", {**HOST, "origin": "http://evil.example"}, "another origin"),
    ],
)
def test_who_is_not(method: str, headers: Mapping[str, str], why: str) -> None:
    assert why in (refusal(method, "/", headers) or "")


@pytest.mark.parametrize(
    ("path", "destination"), [("/events", "document"), ("/state", "document"), ("/", "iframe"), ("/events", "iframe")]
)
def test_links_lead_to_the_page_alone(path: str, destination: str) -> None:
    navigation = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": destination}
    assert "another site" in (refusal("GET", path, HOST | navigation) or "")


def test_nothing_inline_and_nothing_foreign_is_ever_allowed() -> None:
    policy = HEADERS["content-security-policy"]
    assert "default-src 'none'" in policy
    assert not {"unsafe-inline", "unsafe-eval", "http:", "https:", "*", "data:"} & {*policy.replace("'", "").split()}
    assert not any(name.startswith("access-control") for name in HEADERS)
