"""A whole Envoy bootstrap."""

from __future__ import annotations

import orjson
from envoy_data_plane.envoy.config.bootstrap.v3 import Admin, Bootstrap, BootstrapStaticResources

from mcp_extproc.address import Address
from mcp_extproc.config import GatewayConfig
from mcp_extproc.envoy.layout import UPSTREAMS_LISTENER, Layout, cluster_name
from mcp_extproc.envoy.render.clusters import clusters
from mcp_extproc.envoy.render.downstream import is_limited, overload_manager
from mcp_extproc.envoy.render.listeners import listeners
from mcp_extproc.envoy.render.typed import envoy_address
from mcp_extproc.envoy.render.verbatim import written_out


def bootstrap(config: GatewayConfig, layout: Layout) -> Bootstrap:
    """Envoy in front of the gateway, complete."""
    return Bootstrap(
        admin=_admin(config, layout.admin) if layout.admin is not None else None,
        overload_manager=overload_manager(config.overload),
        static_resources=BootstrapStaticResources(
            listeners=listeners(config, layout),
            clusters=clusters(config, layout, judges_first=config.judges_first),
        ),
    )


def upstreams_only(config: GatewayConfig, layout: Layout) -> Bootstrap:
    """Envoy as far as the servers see it: their clusters, and the private listener that leads to them."""
    wanted = {cluster_name(name) for name in config.servers}
    return Bootstrap(
        admin=_admin(config, layout.admin) if layout.admin is not None else None,
        static_resources=BootstrapStaticResources(
            listeners=[item for item in listeners(config, layout) if item.name == UPSTREAMS_LISTENER],
            clusters=[item for item in clusters(config, layout, judges_first=False) if item.name in wanted],
        ),
    )


def _admin(config: GatewayConfig, address: Address) -> Admin:
    # Whoever wants to know why no connections are accepted has to get in.
    return Admin(address=envoy_address(address), ignore_global_conn_limit=is_limited(config.overload))


def to_json(message: Bootstrap) -> str:
    """The configuration as Envoy reads it (``envoy -c FILE.json``), indented for people."""
    return orjson.dumps(written_out(orjson.loads(message.to_json())), option=orjson.OPT_INDENT_2).decode() + "\n"
