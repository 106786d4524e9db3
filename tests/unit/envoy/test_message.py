"""Messages as protobuf writes them as JSON."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mcp_extproc.envoy._api.config_cluster_v3 import Cluster, ClusterDiscoveryType, ClusterLbPolicy, OutlierDetection
from mcp_extproc.envoy._api.config_core_v3 import HeaderValueOption, HeaderValueOptionHeaderAppendAction, Metadata
from mcp_extproc.envoy._api.config_route_v3 import RouteMatch
from mcp_extproc.envoy._api.filters_http_router_v3 import Router
from mcp_extproc.envoy._api.type_v3 import Int64Range
from mcp_extproc.envoy.message import Any, Message, camel


@pytest.mark.parametrize(("message", "data"), [
    (Cluster(), {}),
    (Cluster(name=""), {}),
    (Cluster(name="x", lb_policy=ClusterLbPolicy.ROUND_ROBIN), {"name": "x"}),
    (Cluster(lb_policy=ClusterLbPolicy.RANDOM), {"lbPolicy": "RANDOM"}),
    # Members of a oneof, and wrapped values, are there or not.
    (Cluster(type=ClusterDiscoveryType.STATIC), {"type": "STATIC"}),
    (OutlierDetection(consecutive_5xx=0), {"consecutive5xx": 0}),
    (RouteMatch(prefix=""), {"prefix": ""}),
    (Metadata(filter_metadata={"x_y": {"a_b": [None, 1, {}]}}), {"filterMetadata": {"x_y": {"a_b": [None, 1, {}]}}}),
    (HeaderValueOption(append_action=HeaderValueOptionHeaderAppendAction.ADD_IF_ABSENT), {"appendAction": "ADD_IF_ABSENT"}),
    (Int64Range(start=200, end=2**53 + 1), {"start": "200", "end": "9007199254740993"}),
    (Any(Router()), {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}),
    (Any({"a_b": 1.0, "@type": "x/y"}), {"@type": "x/y", "a_b": 1.0}),
])  # fmt: skip
def test_data(message: Message, data: dict[str, object]) -> None:
    assert message.data(camel) == data


def test_names_as_they_are_declared() -> None:
    assert Cluster(lb_policy=ClusterLbPolicy.RANDOM).data(str) == {"lb_policy": "RANDOM"}


@pytest.mark.parametrize(("seconds", "text"), [
    (0, "0s"), (5, "5s"), (0.25, "0.250s"), (0.005, "0.005s"), (1.000001, "1.000001s"), (86400.5, "86400.500s"),
])  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert Cluster(connect_timeout=timedelta(seconds=seconds)).data(str) == {"connect_timeout": text}


def test_a_copy_is_given() -> None:
    """Whoever gets the data may change it."""
    message = Metadata(filter_metadata={"a": {"b": [1]}})
    message.data(str)["filter_metadata"]["a"]["b"].append(2)
    assert message.filter_metadata == {"a": {"b": [1]}}
