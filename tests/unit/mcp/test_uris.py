"""The rule of URIs: every URI that a server handed out leads back to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.mcp.uris import Uris

WORDS = {"github": "gh", "jira": "j-2.x", "plain": ""}
PREFIXED = Uris(WORDS, untouched=False)
UNTOUCHED = Uris(WORDS, untouched=True)
ONE = Uris({"github": "gh"}, untouched=True)

uris = st.one_of(
    st.text(max_size=30),
    st.from_regex(r"(ui|UI|Ui|file|gh|J-2\.X|gh\+x|https)(:|://|\+|:///)[a-z/+{}?:]{0,12}", fullmatch=True),
)


@given(st.sampled_from(["github", "jira"]), uris)
def test_what_a_client_sees_leads_back(server: str, uri: str) -> None:
    visible = PREFIXED.visible(server, uri)
    assert PREFIXED.split(visible) == (server, uri)
    assert UNTOUCHED.split(UNTOUCHED.prefixed(server, uri)) == (server, uri)
    if uri[:5].lower() == "ui://":
        assert visible[:5] == uri[:5]
    else:
        # Clients and proxies may write schemes in capitals (RFC 3986 section 3.1).
        word = WORDS[server]
        assert PREFIXED.split(word.upper() + visible[len(word) :]) == (server, uri)


@given(uris)
def test_uris_of_the_server_without_a_word_stay_where_nobody_takes_them_for_others(uri: str) -> None:
    visible = PREFIXED.visible("plain", uri)
    assert PREFIXED.split(visible) == ("plain", uri)
    assert visible == uri or PREFIXED.split(uri) != ("plain", uri)


@given(st.sampled_from(sorted(WORDS)), uris, st.booleans())
def test_nothing_that_a_server_writes_reads_like_anothers(server: str, uri: str, untouched: bool) -> None:
    found = (UNTOUCHED if untouched else PREFIXED).split((UNTOUCHED if untouched else PREFIXED).visible(server, uri))
    assert found in (None, (server, uri))
    assert found is not None or untouched


def test_the_word_of_the_server_without_one_is_no_others() -> None:
    uris = Uris({"a": "", "b": "a", "c": "a-"}, untouched=False)
    assert uris.visible("a", "a+x:") == "a--+a+x:"
    assert uris.split("a--+a+x:") == ("a", "a+x:")
    assert uris.split("a+x:") == ("b", "x:")


@given(uris)
def test_one_servers_uris_stay(uri: str) -> None:
    assert ONE.visible("github", uri) == uri
    assert ONE.split(uri) == ("github", uri)


def test_untouched_uris_name_no_server() -> None:
    assert UNTOUCHED.visible("github", "file:///a") == "file:///a"
    assert UNTOUCHED.split("file:///a") is None
    assert UNTOUCHED.split("gh+file:///a") == ("github", "file:///a")


@pytest.mark.parametrize("uri", ["file:///a", "other+file:///a", "ui://other/a", "ui://gh", "gh", "", "+x"])
def test_uris_of_nobody(uri: str) -> None:
    assert Uris({"github": "gh", "jira": "j"}, untouched=False).split(uri) is None


def test_where_uris_may_change() -> None:
    assert PREFIXED.may_change
    assert UNTOUCHED.may_change
    assert not ONE.may_change
