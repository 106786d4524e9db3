"""Documents that a test spells out in part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from mcp_extproc.config import ConfigError, Loaded, loads
from mcp_extproc.config.yaml_reader import CORE_RESOLVERS
from tests.support.tls import Authority

ROUTE = "aigateway.envoyproxy.io/v1beta1"
KEY = "a-key-of-16-chars-or-more"

PEM = "-----BEGIN CERTIFICATE-----\nTUlJ\n-----END CERTIFICATE-----\n"


def document(
    kind: str, api_version: str, name: str, spec: Mapping[str, Any], namespace: str | None = None
) -> dict[str, Any]:
    metadata = {"name": name} if namespace is None else {"name": name, "namespace": namespace}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": dict(spec)}


def route(*, name: str = "r", api_version: str = ROUTE, **spec: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"parentRefs": [{"name": "gateway"}], "backendRefs": to_backend()}
    return document("MCPRoute", api_version, name, given | spec)


def backend(name: str = "a", **spec: Any) -> dict[str, Any]:
    given = {"endpoints": [{"fqdn": {"hostname": f"{name}.example", "port": 8080}}]}
    return document("Backend", "gateway.envoyproxy.io/v1alpha1", name, given | spec)


def to_backend(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "a", "group": "gateway.envoyproxy.io", "kind": "Backend"} | more]


def secret(name: str = "s", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def config_map(name: str = "c", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def gateway(*listeners: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    given = {
        "gatewayClassName": "c",
        "listeners": list(listeners) or [{"name": "http", "port": 1975, "protocol": "HTTP"}],
    }
    return document("Gateway", "gateway.networking.k8s.io/v1", "gateway", given | spec)


def tls_policy(target: str = "a", kind: str = "Backend", **validation: Any) -> dict[str, Any]:
    group = "gateway.envoyproxy.io" if kind == "Backend" else ""
    given = {"hostname": f"{target}.example"} | validation
    if "caCertificateRefs" not in given:
        given["wellKnownCACertificates"] = "System"
    targets = [{"group": group, "kind": kind, "name": target}]
    spec = {"targetRefs": targets, "validation": given}
    return document("BackendTLSPolicy", "gateway.networking.k8s.io/v1", f"{target}-tls", spec)


def pair() -> dict[str, str]:
    """A certificate and its key, as Secrets have them."""
    with TemporaryDirectory() as folder:
        _, key, certificate = Authority(Path(folder)).client_files()
    return {"tls.crt": certificate.decode(), "tls.key": key.decode()}


def text_of(*documents: Mapping[str, Any]) -> str:
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False)


class _Dumper(yaml.SafeDumper):
    """Quotes what our reader takes for a number and PyYAML does not, such as ``1e5``."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML declares it as the instance's
        first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *CORE_RESOLVERS.get(first, [])]
        for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *CORE_RESOLVERS}
    }


def load(
    *documents: Mapping[str, Any], environ: Mapping[str, str] | None = None, resolve: Mapping[str, str] | None = None
) -> Loaded:
    loaded = loads(text_of(*documents), "route.yaml", environ or {}, resolve=resolve or {})
    assert loaded.source == "kubernetes"
    return loaded


def quiet(*documents: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Loaded:
    loaded = load(*documents, environ=environ)
    assert loaded.warnings == ()
    return loaded


def error_of(*documents: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> str:
    """The one problem."""
    with pytest.raises(ConfigError) as caught:
        load(*documents, environ=environ)
    # A chained pydantic or parser error would hold the values, and some loggers print the chain.
    assert caught.value.__context__ is None
    [problem] = caught.value.problems
    assert problem.line is not None
    return f"{problem.path}: {problem.message}"
