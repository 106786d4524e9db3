"""A whole Envoy bootstrap."""

from __future__ import annotations

import orjson
from envoy_data_plane.envoy.config.bootstrap.v3 import Admin, Bootstrap, BootstrapStaticResources

from mcp_extproc.config import GatewayConfig
from mcp_extproc.envoy.clusters import clusters
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.listeners import listeners
from mcp_extproc.envoy.messages import envoy_address


def bootstrap(config: GatewayConfig, layout: Layout) -> Bootstrap:
    """Envoy in front of the gateway, complete."""
    return Bootstrap(
        admin=Admin(address=envoy_address(layout.admin)) if layout.admin is not None else None,
        static_resources=BootstrapStaticResources(
            listeners=listeners(config, layout), clusters=clusters(config, layout)
        ),
    )


def to_json(message: Bootstrap) -> str:
    """The configuration as Envoy reads it (``envoy -c FILE.json``), indented for people."""
    return orjson.dumps(orjson.loads(message.to_json()), option=orjson.OPT_INDENT_2).decode() + "\n"
