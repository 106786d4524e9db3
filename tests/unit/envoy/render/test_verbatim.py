"""The operator's messages reach Envoy as they were written: whatever the configuration accepts can be rendered."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from mcp_extproc.config import ConfigError, loads
from mcp_extproc.envoy._api.config_bootstrap_v3 import Bootstrap, BootstrapStaticResources
from mcp_extproc.envoy._api.config_cluster_v3 import Cluster
from mcp_extproc.envoy.attach.fields import plain
from mcp_extproc.envoy.render import verbatim
from mcp_extproc.envoy.render.bootstrap import to_json

TYPE = "type.googleapis.com/x.Y"
TEXT = st.text(st.characters(codec=None), max_size=3).filter(lambda text: not text.startswith("@") and "$" not in text)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(1e300) | st.just(2**64 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXT, VALUES, max_size=3))
def test_what_is_accepted_is_rendered_as_it_is(members: dict[str, Any]) -> None:
    assume("name" not in members)
    cluster, config = {**members, "name": "x"}, {"@type": TYPE, **members}
    file = {
        "servers": {"a": {"url": "http://a/mcp"}},
        "envoy": {"clusters": [cluster], "http_filters": [{"name": "f", "typed_config": config}]},
    }
    try:
        loads(json.dumps(file), "gateway.json", {})
    except ConfigError:
        return
    carrier = Cluster(name="y", typed_extension_protocol_options={"f": verbatim.typed(config)})
    bootstrap = Bootstrap(static_resources=BootstrapStaticResources(clusters=[verbatim.cluster(cluster), carrier]))
    for written in (json.loads(to_json(bootstrap)), json.loads(json.dumps(plain(bootstrap)))):
        resources = written.get("static_resources", written.get("staticResources"))
        assert resources["clusters"][0] == cluster
        options = "typed_extension_protocol_options"
        carried = resources["clusters"][1]
        assert carried.get(options, carried.get("typedExtensionProtocolOptions"))["f"] == config
