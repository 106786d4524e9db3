"""The dashboard and the alert rules name metrics and labels that there are. Prometheus itself has tests in tests/peers."""

from __future__ import annotations

import json
import re
from itertools import product

import pytest

from mcp_extproc.telemetry.instruments import ALL, Kind
from mcp_extproc.telemetry.prometheus import name_of
from tests.support.processes import ROOT
from tests.support.queries import DASHBOARD, Query, groups_in, metrics_in, of_alerts, of_dashboard, of_docs, panels

PROMETHEUS = {"instance", "job"}
"""Labels of every series."""

ENVOYS = {
    "envoy_http_downstream_cx_active": {"envoy_http_conn_manager_prefix"},
    "envoy_cluster_upstream_rq_active": {"envoy_cluster_name"},
    "envoy_cluster_upstream_cx_connect_fail": {"envoy_cluster_name"},
}


def known() -> dict[str, set[str]]:
    """Labels by the name of a metric's samples."""
    found = {"up": set[str]()} | ENVOYS
    for instrument in ALL:
        labels = {re.sub(r"\W", "_", label) for label in instrument.labels}
        name = name_of(instrument)
        if instrument.kind is Kind.HISTOGRAM:
            found |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
        else:
            found[name] = labels
    return found


QUERIES = [*of_dashboard(), *of_alerts(), *of_docs()]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.where)
def test_a_query_names_what_there_is(query: Query) -> None:
    named, groups = metrics_in(query.promql), groups_in(query.promql)
    assert named, "no metric was found in it"
    for metric, labels in named.items():
        assert metric in known()
        assert labels <= known()[metric] | PROMETHEUS
        assert groups - {"le"} <= known()[metric] | PROMETHEUS, "of a group that a series can't be in"
    assert ("histogram_quantile" in query.promql) == ("le" in groups)
    assert query.shown - PROMETHEUS <= groups | {label for labels in named.values() for label in labels}


def test_each_kind_of_metric_is_on_the_dashboard() -> None:
    shown = {metric for query in of_dashboard() for metric in metrics_in(query.promql)}
    missing = [each.name for each in ALL if not any(name.startswith(name_of(each)) for name in shown)]
    assert missing == []


def test_panels_have_their_own_ids_and_places() -> None:
    board = json.loads(DASHBOARD.read_bytes())["panels"]
    assert len({panel["id"] for panel in board}) == len(board)
    taken: set[tuple[int, int]] = set()
    for panel in board:
        place = panel["gridPos"]
        x, y = place["x"], place["y"]
        cells = {*product(range(x, x + place["w"]), range(y, y + place["h"]))}
        assert not cells & taken, panel["title"]
        assert all(column < 24 for column, _ in cells), panel["title"]
        taken |= cells
    assert all(panel["description"] for panel in panels())


def test_each_alert_is_tried() -> None:
    text = (ROOT / "tests" / "peers" / "alerts.test.yaml").read_text()
    for query in of_alerts():
        assert re.search(rf"alertname: {query.where}\n\s+exp_alerts:", text), f"{query.where} never fires"
        assert re.search(rf"alertname: {query.where}}}", text), f"{query.where} is never silent"
