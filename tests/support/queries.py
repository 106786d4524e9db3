"""The queries of deploy/: a dashboard for Grafana, and alert rules for Prometheus."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from tests.support.processes import ROOT

DASHBOARD: Final = ROOT / "deploy" / "grafana" / "mcp-extproc.json"
RULES: Final = ROOT / "deploy" / "prometheus" / "mcp-extproc.rules.yaml"

GRAFANAS: Final = {"$__rate_interval": "1m", "$__range": "1h", "$server": ".*"}
"""Variables in queries, and a value of each."""


@dataclass(frozen=True)
class Query:
    """A query, and what of its result is shown.

    Attributes:
        where: the panel's title and the query's letter, or the alert's name.
        promql: as Prometheus takes it.
        shown: labels that texts are made of.
    """

    where: str
    promql: str
    shown: frozenset[str]


def panels() -> list[dict[str, Any]]:
    """Of the dashboard, those with queries."""
    return [panel for panel in json.loads(DASHBOARD.read_bytes())["panels"] if panel["type"] != "row"]


def of_dashboard() -> Iterator[Query]:
    """The queries of its panels, with a value in place of each of Grafana's variables."""
    for panel in panels():
        for target in panel["targets"]:
            promql = target["expr"]
            for name, value in GRAFANAS.items():
                promql = promql.replace(name, value)
            shown = frozenset(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            yield Query(f"{panel['title']} {target['refId']}", promql, shown)


def of_alerts() -> Iterator[Query]:
    """The queries of the rules."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            shown = re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"]))
            yield Query(rule["alert"], rule["expr"], frozenset(shown))


def of_docs() -> Iterator[Query]:
    """Those in the documentation."""
    text = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    for number, promql in enumerate(re.findall(r"```promql\n(.*?)```", text, re.DOTALL), 1):
        # Who asks sees all labels but the one that quantiles are made of.
        yield Query(f"docs {number}", promql, frozenset(groups_in(promql) - {"le"}))


_TEXT = re.compile(r'"[^"]*"')
_SELECTOR = re.compile(r"\b((?:mcp|envoy)_\w+|up)(?:\{([^}]*)\})?(?:\[\w+\])?")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")


def metrics_in(promql: str) -> Mapping[str, set[str]]:
    """Names of metrics, and the labels that each is selected by."""
    found: dict[str, set[str]] = {}
    for name, matchers in _SELECTOR.findall(_GROUPING.sub("", _TEXT.sub('""', promql))):
        found.setdefault(name, set()).update(_MATCHER.findall(matchers))
    return found


def groups_in(promql: str) -> set[str]:
    """Labels by which results are added up."""
    return {label.strip() for names in _GROUPING.findall(promql) for label in names.split(",") if label.strip()}
