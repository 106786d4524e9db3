"""The operator's Envoy messages: only Envoy has to know their types, and nothing in them is lost or reinterpreted."""

from __future__ import annotations

from msgspec import field

from mcp_extproc.config.envoy_message import Raw
from mcp_extproc.envoy._api.config_cluster_v3 import Cluster
from mcp_extproc.envoy.message import Any, Data, Spelling


class _WrittenCluster(Cluster):
    written: Raw = field(default_factory=dict)

    def data(self, spelling: Spelling) -> Data:  # noqa: ARG002 - it has its own
        return dict(self.written)


def typed(config: Raw) -> Any:
    """A message with ``@type``."""
    return Any(config)


def cluster(config: Raw) -> Cluster:
    """A cluster."""
    return _WrittenCluster(name=config["name"], written=config)
