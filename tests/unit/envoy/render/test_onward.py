"""Which headers go on behind policies that judge a call once it is decided."""

from __future__ import annotations

import re2
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.envoy.render import upstream_headers
from mcp_extproc.gateway import headers

FOREIGN = re2.compile(upstream_headers.elsewhere(headers.FAMILIES))

HOP_BY_HOP = {"connection", "expect", "host", "te", "transfer-encoding", "upgrade"}

NAMES = st.from_regex(r"[a-z0-9_.!~-]{1,24}", fullmatch=True)
NEAR = st.tuples(st.sampled_from(sorted(headers.FAMILIES)), st.integers(1, 12), st.one_of(st.just(""), NAMES)).map(
    lambda drawn: drawn[0][: drawn[1]] + drawn[2]
)


def test_what_passes() -> None:
    for name in headers.PASSED - HOP_BY_HOP:
        assert not FOREIGN.fullmatch(name), name
        assert not headers.passes_envoy(name), name


@given(st.one_of(NAMES, NEAR))
def test_what_may_not_pass_is_removed_or_seen_before(name: str) -> None:
    """By the expression, one by one, by what is put in its place, or by the worker, which then leaves two visits."""
    is_ours = name.startswith(("x-mcp-", "mcp-"))
    gone = FOREIGN.fullmatch(name) or name in (*headers.STRIPPED, "accept")
    assert name in headers.PASSED or gone or is_ours or headers.passes_envoy(name)


def test_envoy_takes_it() -> None:
    """By default it refuses a program of more than 100 instructions."""
    assert FOREIGN.programsize <= 100
