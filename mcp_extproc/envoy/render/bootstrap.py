"""A complete Envoy bootstrap."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import orjson

from mcp_extproc.address import Address
from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import OVER_SSE
from mcp_extproc.envoy._api.config_bootstrap_v3 import (
    Admin,
    Bootstrap,
    BootstrapStaticResources,
    LayeredRuntime,
    RuntimeLayer,
    RuntimeLayerAdminLayer,
)
from mcp_extproc.envoy.layout import EXTERNAL_CLUSTER, UPSTREAMS_LISTENER, Layout, cluster_name, token_cluster
from mcp_extproc.envoy.message import camel
from mcp_extproc.envoy.render.authentication.sections import sections
from mcp_extproc.envoy.render.clusters import clusters
from mcp_extproc.envoy.render.downstream import overload_manager
from mcp_extproc.envoy.render.listeners import listeners, questions
from mcp_extproc.envoy.render.typed import envoy_address


def bootstrap(config: GatewayConfig, layout: Layout) -> Bootstrap:
    """A complete Envoy in front of the gateway."""
    layout = replace(layout, takes_long_expressions=True)
    return Bootstrap(
        layered_runtime=_runtime(),
        admin=_admin(layout.admin) if layout.admin is not None else None,
        overload_manager=overload_manager(config.overload),
        static_resources=BootstrapStaticResources(
            listeners=listeners(config, layout),
            clusters=clusters(config, layout),
        ),
    )


def upstreams_only(config: GatewayConfig, layout: Layout, service: Address) -> Bootstrap:
    """The part of Envoy that faces servers: the clusters of MCP servers and the private listener for sub-requests, and the
    cluster of a service that says who calls, if there is one, with a listener that asks it.

    Args:
        config: the servers.
        layout: of this Envoy.
        service: address of that listener.
    """
    services = [
        section.named(EXTERNAL_CLUSTER) for section in sections(config) if section.authentication.external is not None
    ]
    wanted = {cluster_name(f"{name}{part}") for name in config.servers for part in ("", OVER_SSE)}
    wanted |= {*services, *(token_cluster(name) for name in config.servers)}
    return Bootstrap(
        admin=_admin(layout.admin) if layout.admin is not None else None,
        static_resources=BootstrapStaticResources(
            listeners=[
                *(item for item in listeners(config, layout) if item.name == UPSTREAMS_LISTENER),
                *([questions(config, layout, service)] if services else []),
            ],
            clusters=[item for item in clusters(config, layout) if item.name in wanted],
        ),
    )


def _runtime() -> LayeredRuntime:
    """What Envoy itself has otherwise by default, and what its admin interface may change: whether records are sent for the
    status page, among others. Envoy reads it only when it starts."""
    return LayeredRuntime(
        layers=[
            RuntimeLayer(name="mcp", static_layer={"re2.max_program_size.error_level": _MAX_INSTRUCTIONS}),
            RuntimeLayer(name="admin", admin_layer=RuntimeLayerAdminLayer()),
        ]
    )


_MAX_INSTRUCTIONS: Final = 2000
"""Of a regular expression's program, in any configuration that this Envoy gets."""


def _admin(address: Address) -> Admin:
    # The admin interface stays reachable when Envoy accepts no more connections.
    return Admin(address=envoy_address(address), ignore_global_conn_limit=True)


def to_json(message: Bootstrap) -> str:
    """The configuration as JSON for ``envoy -c FILE.json``, indented."""
    return orjson.dumps(message.data(camel), option=orjson.OPT_INDENT_2).decode() + "\n"
