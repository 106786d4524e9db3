"""Envoy's configuration as files that a running Envoy watches: servers come and go without a restart.

``envoy.json`` is what Envoy is started with. It names ``cds.json`` (clusters) and ``lds.json`` (listeners), and each listener
names its routes, ``rds-LISTENER.json``: adding a server changes clusters and routes, and no listener, so that no connection is
drained. Source: Envoy, "xDS configuration API overview", Filesystem subscriptions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import orjson

from mcp_extproc.config import GatewayConfig
from mcp_extproc.envoy.attach.fields import Object, objects, plain
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.render.bootstrap import bootstrap

BOOTSTRAP = "envoy.json"
CLUSTERS = "cds.json"
LISTENERS = "lds.json"


@dataclass(frozen=True, slots=True)
class File:
    """One file."""

    name: str
    text: bytes
    version: str = ""
    """What Envoy shows as the statistic ``STAT.version_text``, once it has taken the content of a watched file."""
    stat: str = ""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The whole of a configuration, file by file."""

    bootstrap: File
    """Read once, when Envoy starts."""
    clusters: File
    routes: tuple[File, ...]
    """One for each listener. Their clusters have to be there first."""
    listeners: File
    """Their routes have to be there first."""

    @property
    def watched(self) -> tuple[File, ...]:
        """What a running Envoy takes up, in an order in which nothing is named before it is there."""
        return (self.clusters, *self.routes, self.listeners)


def render(config: GatewayConfig, layout: Layout, directory: Path) -> Rendered:
    """All files for an Envoy.

    Args:
        config: the whole configuration.
        layout: where Envoy and the workers meet.
        directory: where the files will be, as Envoy sees it.
    """
    whole = plain(bootstrap(config, layout))
    static = whole.pop("static_resources")
    whole |= {
        "node": {"id": "mcp-extproc", "cluster": "mcp-extproc"},
        "dynamic_resources": {
            "cds_config": _source(directory / CLUSTERS),
            "lds_config": _source(directory / LISTENERS),
        },
    }
    listeners = objects(static, "listeners")
    routes = tuple(_routes_file(listener, directory) for listener in listeners)
    return Rendered(
        bootstrap=File(BOOTSTRAP, _text(whole)),
        clusters=_file(CLUSTERS, "cluster_manager.cds", "cluster.v3.Cluster", objects(static, "clusters")),
        routes=routes,
        listeners=_file(LISTENERS, "listener_manager.lds", "listener.v3.Listener", listeners),
    )


def write(directory: Path, file: File) -> bool:
    """Write a file where its content differs from what is there, in one step: Envoy takes it up when it is moved there.

    Returns:
        Whether it was written.

    Raises:
        OSError: that is not possible.
    """
    path = directory / file.name
    if path.exists() and path.read_bytes() == file.text:
        return False
    new = path.with_name(f".{file.name}.new")
    new.write_bytes(file.text)
    new.replace(path)
    return True


def _routes_file(listener: Object, directory: Path) -> File:
    name = f"rds-{listener['name']}.json"
    table = _take_routes(listener, _source(directory / name))
    stat = f"http.{listener['name']}.rds.{table['name']}"
    return _file(name, stat, "route.v3.RouteConfiguration", [table])


def _take_routes(listener: Object, source: Object) -> Object:
    """Take the routes out of a listener, and name their source instead. Its filter chains share them."""
    managers = [
        item["typed_config"]
        for chain in objects(listener, "filter_chains")
        for item in objects(chain, "filters")
        if "route_config" in item["typed_config"]
    ]
    table: Object = managers[0]["route_config"]
    for manager in managers:
        if manager.pop("route_config") != table:
            raise ValueError(f"the listener {listener['name']} has several tables of routes")
        manager["rds"] = {"route_config_name": table["name"], "config_source": source}
    return table


def _source(path: Path) -> Object:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}


def _file(name: str, stat: str, type_name: str, resources: list[Object]) -> File:
    typed = [{"@type": f"type.googleapis.com/envoy.config.{type_name}", **resource} for resource in resources]
    version = hashlib.sha256(orjson.dumps(typed)).hexdigest()[:16]
    return File(name, _text({"version_info": version, "resources": typed}), version, stat)


def _text(data: Object) -> bytes:
    return orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
