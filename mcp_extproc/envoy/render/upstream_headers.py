"""Which headers of servers go further than the server's cluster, and that no trailers pass in either direction.

A list of what passes, as in :mod:`mcp_extproc.gateway.headers`, which has the other direction. It is Envoy's, because most
responses are never seen by a worker; and it is the cluster's, so that it is the same on every listener.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mcp_extproc.contract import FAILURE_HEADER
from mcp_extproc.envoy._api.config_common_mutation_rules_v3 import HeaderMutation as OneMutation
from mcp_extproc.envoy._api.config_common_mutation_rules_v3 import HeaderMutationRemoveOnMatch as RemoveOnMatch
from mcp_extproc.envoy._api.filters_http_header_mutation_v3 import HeaderMutation, Mutations
from mcp_extproc.envoy._api.filters_http_upstream_codec_v3 import UpstreamCodec
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy._api.type_matcher_v3 import RegexMatcher, StringMatcher
from mcp_extproc.envoy.render.typed import any_of

PASSED: Final = (
    # content-type, -length, -encoding, the harmless -language and -location, cache-control and vary
    ":", "content-t", "content-l", "content-e", "ca", "va",
    # Hint of servers to proxies that buffer. (X-Accel-Redirect would be an order to them.)
    "x-accel-b",
    # For the gateway itself: the session and its version, redirects, and what its private listeners report.
    "mcp-s", "mcp-p", "loc", FAILURE_HEADER[:7],
)  # fmt: skip
"""Beginnings of the names of headers that pass, as short as they can be: RE2 has no negation, and Envoy refuses an expression
whose program has more than 100 instructions. A name of which one of these is not a beginning, but the other way round, passes
too; there is none."""


def foreign(passed: Iterable[str] = PASSED) -> str:
    """A regular expression for names that begin with none of these."""
    tree = _Tree()
    for beginning in passed:
        node = tree
        for character in beginning:
            node = node.setdefault(character, _Tree())
    return f"{_other(tree)}[!-~]*"


class _Tree(dict[str, "_Tree"]):
    """Characters that may follow; none where anything may."""


def _other(node: _Tree) -> str:
    deeper = [f"{_escaped(character)}{_other(below)}" for character, below in sorted(node.items()) if below]
    return f"(?:{'|'.join([_any_but(node), *deeper])})"


def _any_but(characters: Iterable[str]) -> str:
    """A class of visible ASCII. ``[^x]`` would be all of Unicode, which takes RE2 many instructions."""
    ranges, start = [], ord("!")
    for code in [*sorted(map(ord, characters)), ord("~") + 1]:
        if start < code:
            ranges.append(f"{_escaped(chr(start))}-{_escaped(chr(code - 1))}")
        start = code + 1
    return f"[{''.join(ranges)}]"


def _escaped(character: str) -> str:
    return character if character.isalnum() else f"\\{character}"


def filters(*others: HttpFilter) -> list[HttpFilter]:
    """The filters of a server's cluster.

    Args:
        others: they see only the headers that pass.
    """
    passing = Mutations(
        response_mutations=[_without(foreign())],
        response_trailers_mutations=[_without(_ANY)],
        request_trailers_mutations=[_without(_ANY)],
    )
    # Responses meet them from the end.
    return [
        *others,
        HttpFilter(name="mcp_headers", typed_config=any_of(HeaderMutation(mutations=passing))),
        HttpFilter(name="envoy.filters.http.upstream_codec", typed_config=any_of(UpstreamCodec())),
    ]


_ANY: Final = "[!-~]+"


def _without(names: str) -> OneMutation:
    matcher = StringMatcher(safe_regex=RegexMatcher(regex=names))
    return OneMutation(remove_on_match=RemoveOnMatch(key_matcher=matcher))
