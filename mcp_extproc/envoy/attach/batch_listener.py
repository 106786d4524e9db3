"""The private listener for messages of batches, as a copy of the clients' listener.

Each message of a batch has to pass the policies that it would pass alone (docs/design.md). The copy differs only where a
second pass through the same filters would be wrong.
"""

from __future__ import annotations

import copy

from mcp_extproc.contract import CERTIFICATE_HEADER
from mcp_extproc.envoy.attach.fields import Object, extend, get, object_at, objects, plain, put, take
from mcp_extproc.envoy.attach.parts import EARLY, is_ours, reads_certificate
from mcp_extproc.envoy.attach.target import Target
from mcp_extproc.envoy.layout import BATCHES_LISTENER, Layout
from mcp_extproc.envoy.render.typed import envoy_address


def batches_listener(target: Target, hosts: list[Object], layout: Layout) -> Object:
    """A listener for the workers only.

    Args:
        target: the clients' listener, with the gateway's parts.
        hosts: the virtual hosts with the endpoint.
        layout: its address.
    """
    manager = copy.deepcopy(target.manager)
    _trust_the_worker(manager)
    _take_certificates(manager)
    put(manager, "stat_prefix", BATCHES_LISTENER)
    routes = object_at(manager, "route_config")
    put(routes, "virtual_hosts", [_only_the_endpoint(host) for host in hosts])
    listener: Object = {
        "name": BATCHES_LISTENER,
        "address": plain(envoy_address(layout.batches)),
        "filter_chains": [{"filters": [{"name": get(target.network_filter, "name"), "typed_config": manager}]}],
    }
    limit = get(target.listener, "per_connection_buffer_limit_bytes")
    return listener if limit is None else {**listener, "per_connection_buffer_limit_bytes": copy.deepcopy(limit)}


def _trust_the_worker(manager: Object) -> None:
    """Messages carry the headers that Envoy derived from the client's own."""
    ours = [item for item in objects(manager, "early_header_mutation_extensions") if get(item, "name") == EARLY]
    take(
        manager,
        "codec_type",
        "http3_protocol_options",
        "set_current_client_cert_details",
        "early_header_mutation_extensions",
    )
    extend(manager, "early_header_mutation_extensions", ours)
    put(manager, "forward_client_cert_details", "ALWAYS_FORWARD_ONLY")
    # The client's address is the last in x-forwarded-for, added when the batch arrived.
    put(manager, "use_remote_address", False)
    put(manager, "skip_xff_append", True)


def _take_certificates(manager: Object) -> None:
    """Workers have no certificate. They say what the batch's was, where clients can't: at this listener."""
    filters = objects(manager, "http_filters")
    filters[:] = [item for item in filters if not reads_certificate(item)]
    for extension in objects(manager, "early_header_mutation_extensions"):
        mutations = objects(object_at(extension, "typed_config"), "mutations")
        mutations[:] = [item for item in mutations if get(item, "remove") != CERTIFICATE_HEADER]


def _only_the_endpoint(host: Object) -> Object:
    copied = copy.deepcopy(host)
    put(copied, "routes", [route for route in objects(copied, "routes") if is_ours(route)])
    # Already checked on the client's connection.
    take(copied, "require_tls")
    return copied
