"""The operator's Envoy messages, carried verbatim through typed ones.

Wherever Envoy accepts an extension, it accepts data with the name of its type (``xds.type.v3.TypedStruct``). So only Envoy
has to know the type, and nothing is lost or reinterpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import betterproto2
import orjson
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import Metadata
from envoy_data_plane.google.protobuf import Any as ProtoAny
from envoy_data_plane.google.protobuf import Struct
from envoy_data_plane.message_pool import default_message_pool

from mcp_extproc.config.envoy_message import MAX_WHOLE_NUMBER, Raw

_RAW_CLUSTER = "mcp_extproc.raw"
_TYPED_STRUCT = "type.googleapis.com/xds.type.v3.TypedStruct"


@dataclass(eq=False, repr=False)
class TypedStruct(betterproto2.Message):
    """A message as data (xds/type/v3/typed_struct.proto)."""

    type_url: str = betterproto2.field(1, betterproto2.TYPE_STRING)
    value: Struct | None = betterproto2.field(2, betterproto2.TYPE_MESSAGE, optional=True)  # noqa: RUF009


default_message_pool.register_message("xds.type.v3", "TypedStruct", TypedStruct)


def typed(config: Raw) -> ProtoAny:
    """A message with ``@type``."""
    value = {key: item for key, item in config.items() if key != "@type"}
    return ProtoAny.pack(TypedStruct(type_url=config["@type"], value=Struct.from_dict(value)))


def cluster(config: Raw) -> Cluster:
    """A cluster. Clusters are not extensions, so :func:`written_out` has to put it in its place."""
    text = orjson.dumps(config).decode()
    return Cluster(
        name=config["name"], metadata=Metadata(filter_metadata={_RAW_CLUSTER: Struct.from_dict({"json": text})})
    )


def written_out(data: Any) -> Any:
    """Configuration as JSON data, with the operator's messages verbatim."""
    if isinstance(data, dict):
        if data.get("@type") == _TYPED_STRUCT:
            return {"@type": data.get("typeUrl", data.get("type_url")), **_numbers(data.get("value", {}))}
        hidden = data.get("metadata")
        if isinstance(hidden, dict):
            kept = hidden.get("filterMetadata", hidden.get("filter_metadata", {}))
            if isinstance(kept, dict) and _RAW_CLUSTER in kept:
                return orjson.loads(kept[_RAW_CLUSTER]["json"])
        return {key: written_out(value) for key, value in data.items()}
    if isinstance(data, list):
        return [written_out(item) for item in data]
    return data


def _numbers(data: Any) -> Any:
    """Whole numbers without the fraction that ``Struct`` adds."""
    if isinstance(data, dict):
        return {key: _numbers(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_numbers(item) for item in data]
    if isinstance(data, float) and data.is_integer() and abs(data) <= MAX_WHOLE_NUMBER:
        return int(data)
    return data
