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
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.render.typed import any_of

PASSED: Final = (
    ("content-type", 9), ("content-encoding", 9),
    # Hint of servers to proxies that buffer. (X-Accel-Redirect would be an order to them.)
    ("x-accel-buffering", 9),
    ("content-length", 9), ("content-language", 9), ("content-location", 9), ("cache-control", 2), ("vary", 2),
    # For the gateway itself: redirects, the session and its version, and what its private listeners report.
    ("location", 3), ("mcp-session-id", 5), ("mcp-protocol-version", 5), (FAILURE_HEADER, 7),
)  # fmt: skip
"""Names of headers that pass, and how many characters of each tell it from most others: as few as they can be. RE2 has no
negation, and Envoy refuses an expression whose program has more than 100 instructions. So one expression is for names that
begin in another way, which are most, and others are for those that only begin so. No name is the beginning of another. An
Envoy with a runtime of ours takes longer expressions (:func:`foreign_in_one`)."""

_CHALLENGE: Final = ("www-authenticate", 1)
"""It passes where clients log in at the server itself."""

_LONGEST: Final = 20
"""Characters that are still to be looked at, of all names together, in one of the latter."""


def foreign(*, challenges: bool = False) -> list[str]:
    """Regular expressions: a header passes if none of these matches all of its name. Pseudo-headers pass.

    Args:
        challenges: whether ``WWW-Authenticate`` passes, too.
    """
    return all_but(_passed(challenges=challenges))


def _passed(*, challenges: bool) -> tuple[tuple[str, int], ...]:
    return (*PASSED, _CHALLENGE) if challenges else PASSED


def all_but(passed: Iterable[tuple[str, int]]) -> list[str]:
    """Regular expressions: a header is none of these, and no pseudo-header, if one of them matches all of its name.

    Args:
        passed: as :data:`PASSED`.
    """
    lengths = dict(passed)
    beginnings = dict.fromkeys(name[:length] for name, length in lengths.items())
    groups: list[list[tuple[str, str]]] = [[]]
    for beginning in beginnings:
        names = [(name[:length], name[length:]) for name, length in lengths.items() if name.startswith(beginning)]
        if sum(len(rest) for _, rest in groups[-1] + names) > _LONGEST:
            groups.append([])
        groups[-1].extend(names)
    return [elsewhere(beginnings), _short_of(_tree(beginnings)), *map(_begin_only, groups)]


def foreign_in_one(*, challenges: bool = False) -> str:
    """The same as :func:`foreign` for whole names, as one regular expression. Envoy takes it only where its runtime says so.
    Each header is looked at once then; eight expressions take 13,000 of the 540,000 instructions of a call."""
    tree = _tree(name for name, _ in _passed(challenges=challenges))
    inside = (f"{_escaped(one)}{_other(below, ends=True)}" for one, below in sorted(tree.items()))
    return f"(?:{'|'.join((_any_but([':', *tree]), *inside))})[!-~]*"


def elsewhere(beginnings: Iterable[str]) -> str:
    """A regular expression for names that begin in another way, as far as they are as long."""
    return f"{_other(_tree([':', *beginnings]), ends=False)}[!-~]*"


class _Tree(dict[str, "_Tree"]):
    """Characters that may follow; none at the end."""


def _tree(texts: Iterable[str]) -> _Tree:
    tree = _Tree()
    for text in texts:
        node = tree
        for character in text:
            node = node.setdefault(character, _Tree())
    return tree


def _begin_only(names: Iterable[tuple[str, str]]) -> str:
    """What begins like one of these names, each in two parts, and is none of them."""
    rests: dict[str, list[str]] = {}
    for start, rest in names:
        rests.setdefault(start, []).append(rest)
    each = (f"{''.join(map(_escaped, start))}{_other(_tree(after), ends=True)}" for start, after in rests.items())
    return f"(?:{'|'.join(each)})[!-~]*"


def _short_of(node: _Tree) -> str:
    """What ends before the tree does."""
    deeper = [f"{_escaped(one)}{_short_of(below)}" for one, below in sorted(node.items()) if below]
    return f"(?:{'|'.join(deeper)})?" if deeper else ""


def _other(node: _Tree, *, ends: bool) -> str:
    """Where a text leaves the tree.

    Args:
        node: the root.
        ends: whether it does so by ending early or going on, too.
    """
    deeper = [f"{_escaped(one)}{_other(below, ends=ends)}" for one, below in sorted(node.items()) if below or ends]
    early = ["$"] if ends and node else []
    return f"(?:{'|'.join([*early, _any_but(node), *deeper])})"


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


def passing(layout: Layout, *, challenges: bool = False) -> HttpFilter:
    """The filter of a server's cluster that removes what does not pass.

    Args:
        layout: whether Envoy takes it in one expression.
        challenges: see :func:`foreign`.
    """
    expressions = (
        [foreign_in_one(challenges=challenges)] if layout.takes_long_expressions else foreign(challenges=challenges)
    )
    mutations = Mutations(
        response_mutations=[without(each) for each in expressions],
        response_trailers_mutations=[without(_ANY)],
        request_trailers_mutations=[without(_ANY)],
    )
    return HttpFilter(name="mcp_headers", typed_config=any_of(HeaderMutation(mutations=mutations)))


_ANY: Final = "[!-~]+"

CODEC: Final = HttpFilter(name="envoy.filters.http.upstream_codec", typed_config=any_of(UpstreamCodec()))
"""The last filter of every cluster that has some."""


def without(names: str) -> OneMutation:
    """Removes the headers whose names this expression matches."""
    matcher = StringMatcher(safe_regex=RegexMatcher(regex=names))
    return OneMutation(remove_on_match=RemoveOnMatch(key_matcher=matcher))


def without_failure() -> HeaderMutation:
    """Removes the report of a failure from answers of servers: it is the private listeners' to write."""
    return HeaderMutation(mutations=Mutations(response_mutations=[OneMutation(remove=FAILURE_HEADER)]))


NO_FAILURES: Final = HttpFilter(name="mcp_failures", typed_config=any_of(without_failure()))
"""For clusters that have no such listener."""
