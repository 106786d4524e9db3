"""Envoy's configuration as files that a running Envoy watches, so that servers can change without a restart.

``envoy.json`` is the bootstrap. It refers to ``cds.json`` (clusters) and ``lds.json`` (listeners), and each listener to its
routes, ``rds-LISTENER.json``: adding a server changes clusters and routes, but no listener, so no connection is drained.
Source: Envoy, "xDS configuration API overview", Filesystem subscriptions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import orjson

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.api_keys import NO_KEYS, Keys, KeysByFile
from mcp_extproc.envoy.attach.fields import Object, object_at, objects, plain
from mcp_extproc.envoy.files import BOOTSTRAP, CLUSTERS, LISTENERS, File, Rendered
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.metadata_read import ask_for_what_is_read
from mcp_extproc.envoy.render import client_credentials, own_certificates
from mcp_extproc.envoy.render.authentication.api_keys import keys_by_filter
from mcp_extproc.envoy.render.bootstrap import bootstrap


def render(config: GatewayConfig, layout: Layout, directory: Path, api_keys: KeysByFile = NO_KEYS) -> Rendered:
    """All files for an Envoy.

    Args:
        config: the whole configuration.
        layout: addresses of Envoy and the workers.
        directory: path of the files, as Envoy sees it.
        api_keys: of clients. They are in files of routes only, so that Envoy takes new ones without draining a listener.
    """
    whole = plain(bootstrap(config, replace(layout, secrets=directory)))
    static = whole.pop("static_resources")
    ask_for_what_is_read(static, config)
    whole |= {
        "node": {"id": "mcp-extproc", "cluster": "mcp-extproc"},
        "dynamic_resources": {
            "cds_config": _source(directory / CLUSTERS),
            "lds_config": _source(directory / LISTENERS),
        },
    }
    listeners = objects(static, "listeners")
    by_filter = keys_by_filter(config, api_keys)
    routes = tuple(_routes_file(listener, directory, by_filter) for listener in listeners)
    return Rendered(
        bootstrap=File(BOOTSTRAP, _text(whole)),
        clusters=_file(CLUSTERS, "cluster_manager.cds", "cluster.v3.Cluster", objects(static, "clusters")),
        routes=routes,
        listeners=_file(LISTENERS, "listener_manager.lds", "listener.v3.Listener", listeners),
        secrets=secret_files(config),
    )


def secret_files(config: GatewayConfig) -> tuple[File, ...]:
    """The files with secrets that clusters and the clients' listener name."""
    found = (*client_credentials.secrets(config), *own_certificates.secrets(config))
    return tuple(File(name, _text(dict(data)), secrets=(secret,)) for name, data, secret in found)


def _routes_file(listener: Object, directory: Path, keys: Mapping[str, Keys]) -> File:
    name = f"rds-{listener['name']}.json"
    table = _take_routes(listener, _source(directory / name))
    secrets: list[str] | None = None
    for host in objects(table, "virtual_hosts"):
        for filter, place in object_at(host, "typed_per_filter_config").items():
            if filter in keys:
                place["credentials"] = [
                    {"key": key, "client": name} for name, all in keys[filter].items() for key in all
                ]
                secrets = [*(secrets or ()), *(key for all in keys[filter].values() for key in all)]
    stat = f"http.{listener['name']}.rds.{table['name']}"
    file = _file(name, stat, "route.v3.RouteConfiguration", [table])
    return file if secrets is None else replace(file, secrets=tuple(secrets))


def _take_routes(listener: Object, source: Object) -> Object:
    """Move the routes out of a listener and refer to their file instead. Its filter chains share them."""
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
