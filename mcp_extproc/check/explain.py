"""What a caller may see and do, and which rule says so."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

from mcp_extproc.check import temporary_envoy
from mcp_extproc.check.report import when_started
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.authorization import Kind
from mcp_extproc.config.endpoint import endpoints
from mcp_extproc.gateway.authorization.conditions import Question
from mcp_extproc.gateway.authorization.items import DEFAULTS, Hints, Item, hints_of
from mcp_extproc.gateway.authorization.rules import Access, Outcome, Verdict
from mcp_extproc.gateway.catalog import Catalog
from mcp_extproc.gateway.endpoints import rules_of
from mcp_extproc.gateway.legs import Failed
from mcp_extproc.gateway.policy.followed import followed
from mcp_extproc.gateway.principal import ANONYMOUS, Principal
from mcp_extproc.mcp import jsontext
from mcp_extproc.upstreams.probe import Survey

_LISTS: Final = {"tools": "name", "prompts": "name", "resources": "uri", "resourceTemplates": "uriTemplate"}
"""By what they are lists of: what an entry is known by."""

_WORDS: Final = {
    Outcome.ALLOWED: "allowed",
    Outcome.DENIED: "hidden",
    Outcome.NEEDS_SCOPE: "needs scopes",
    Outcome.OPEN: "depends on the arguments",
    Outcome.NEEDS_HINTS: "depends on annotations",
}

BY_POLICY: Final = "denied by a policy"
"""Of what rules allow: an RBAC filter will deny it, and lists leave it out."""

_EVERYTHING: Final = Verdict(Outcome.ALLOWED, "none")

_AS_HINT = "expected words such as sub=alice scope=a,b groups=x claim.tenant=acme"


@dataclass(frozen=True, slots=True)
class Explained:
    """One item."""

    server: str
    kind: str
    """``tools``, ``prompts``, ``resources`` or ``resourceTemplates``."""
    name: str
    """As clients see it."""
    verdict: str
    rule: str
    """Name of the rule that decided, its number from 1, ``default``, or ``not offered`` at a virtual server; ``none`` where
    there are no rules. Of a policy, ``rbac:`` and its name, as in the audit; ``rbac:none`` where none allows it."""
    scopes: Sequence[str] = ()
    """What is missing, where more scopes would do."""

    @property
    def depends_on_annotations(self) -> bool:
        """Whether only the server's list tells."""
        return self.verdict == _WORDS[Outcome.NEEDS_HINTS]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a caller may see and do."""

    items: Sequence[Explained]
    unread: Sequence[str]
    """A sentence for each list that could not be read."""


def principal_of(text: str) -> Principal:
    """Who is meant by words such as ``sub=alice scope=a,b groups=x claim.tenant=acme``; anonymous by none. A value of a claim
    that is JSON is what it says, all else text.

    Raises:
        ValueError: they say nothing that is understood.
    """
    principal, claims = ANONYMOUS, {}
    for word in shlex.split(text):
        key, mark, value = word.partition("=")
        if not mark:
            raise ValueError(_AS_HINT)
        match key:
            case "sub":
                principal = replace(principal, subject=value)
            case "scope" | "scopes":
                principal = replace(principal, scopes=frozenset(value.replace(",", " ").split()))
            case "group" | "groups":
                principal = replace(principal, groups=frozenset(filter(None, value.split(","))))
            case _ if key.startswith("claim.") and key != "claim.":
                claims[key.removeprefix("claim.")] = _value(value)
            case _:
                raise ValueError(_AS_HINT)
    if not text.strip():
        return ANONYMOUS
    return replace(principal, proven="token", subject=principal.subject or "somebody", claims=claims)


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


class Explainer:
    """Explains the rules of a configuration to one caller.

    Args:
        config: the whole configuration. Without rules, everything is allowed.
        principal: the caller.
        name: of the endpoint; empty for the main one.

    Raises:
        KeyError: there is no such endpoint.
    """

    def __init__(self, config: GatewayConfig, principal: Principal, name: str = "") -> None:
        self._config = config
        endpoint = {one.name: one for one in endpoints(config)}[name]
        self._catalog = Catalog(endpoint)
        compiled = rules_of(endpoint)
        self._access: Access | None = None if compiled is None else compiled.of(principal)
        self._question = Question(principal)
        policies = followed(config, endpoint, self._catalog)
        # Of a token there may be more than was said.
        caller = principal if principal == ANONYMOUS else replace(principal, proven="said")
        self._follows = None if policies is None else policies.of(caller)

    def of_name(self, name: str) -> Explained | None:
        """What holds of a tool, by the name that clients use, whether there is one or not; ``None`` where there can't be."""
        found = self._catalog.resolve("tools", name)
        return None if found is None else self._explained("tools", found[0].name, found[1], name, None)

    def of_lists(self, surveyed: Sequence[Survey]) -> Explanation:
        """What holds of all that servers list."""
        found = [one for asked in surveyed for one in self._listed(asked)]
        return Explanation(found, [text for asked in surveyed for text in _unread(asked)])

    def _listed(self, asked: Survey) -> Iterator[Explained]:
        if asked.name not in self._catalog.entries:
            return
        for kind, outcome in asked.lists.items():
            if isinstance(outcome, Failed):
                continue
            for raw in outcome.items:
                own = jsontext.text_at(raw, _LISTS[kind])
                visible = None if own is None else self._visible(kind, asked.name, own)
                if own is None or visible is None:
                    continue
                believed = kind == "tools" and not self._config.servers[asked.name].untrusted
                hints = hints_of(jsontext.object_of(raw) or {}) if believed else DEFAULTS
                yield self._explained(kind, asked.name, own, visible, hints)

    def _visible(self, kind: str, server: str, own: str) -> str | None:
        if kind in ("tools", "prompts"):
            return self._catalog.visible(kind, server, own)
        return self._catalog.uris.visible(server, own)

    def _explained(self, kind: str, server: str, own: str, visible: str, hints: Hints | None) -> Explained:
        item = Item(cast("Kind", "resources" if kind == "resourceTemplates" else kind), server, own)
        verdict = _EVERYTHING if self._access is None else self._access.verdict(item, hints, self._question)
        if verdict.shows and self._follows is not None:
            policy = self._follows.verdict(item, is_template=kind == "resourceTemplates")
            if policy.denies:
                return Explained(server, kind, visible, BY_POLICY, policy.rule)
        return Explained(server, kind, visible, _WORDS[verdict.outcome], verdict.rule, verdict.scopes)


def _unread(asked: Survey) -> Iterator[str]:
    if isinstance(asked.opened, Failed):
        yield f"{asked.name} {asked.opened.message}"
        return
    for kind, outcome in asked.lists.items():
        if isinstance(outcome, Failed):
            yield f"{asked.name}: {kind}: {outcome.message}"


async def read_lists(
    config: GatewayConfig, folder: Path, envoy: str, tell_waiting: Callable[[Sequence[str]], object]
) -> Sequence[Survey]:
    """What all servers list. Those that are starting have until their ``start_timeout``.

    Args:
        config: the whole configuration.
        folder: of its file.
        envoy: the Envoy binary.
        tell_waiting: given the names of servers that are still starting, where this waits for them.

    Raises:
        StartError: Envoy rejects the configuration.
    """
    return await temporary_envoy.asked(
        config,
        folder,
        envoy,
        lambda known, running: when_started(known, running.upstreams, list(_LISTS), tell_waiting),
    )
