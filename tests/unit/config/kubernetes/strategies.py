"""Files of Kubernetes documents, valid ones and such that something is done to.

Keys are there or not, and where they are, not with the value that they have anyway. Hosts of servers say of which document
they come: ``NAME.NAMESPACE.example``.
"""

from __future__ import annotations

import copy
import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tests.unit.config.kubernetes.support import PEM

MARK = "zq7kx9wv"
"""In all that is secret."""

Document = dict[str, Any]
Path = tuple[str | int, ...]

NAMESPACES = (None, "red", "blue")
BACKEND_GROUP = "gateway.envoyproxy.io"
GATEWAY_GROUP = "gateway.networking.k8s.io"


@dataclass(slots=True)
class File:
    """A file, and the environment in which it is read."""

    documents: list[Document] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)

    def has(self, kind: str, name: str, namespace: str | None) -> bool:
        """Whether there is such a document."""
        return any(key_of(one) == (kind, name, namespace) for one in self.documents)

    def add(self, api_version: str, kind: str, name: str, namespace: str | None, **sections: Any) -> str:
        """One more document. Its name is returned."""
        metadata = {"name": name} | ({} if namespace is None else {"namespace": namespace})
        self.documents.append({"apiVersion": api_version, "kind": kind, "metadata": metadata} | sections)
        return name

    def secret_text(self) -> str:
        """Another one each time."""
        return f"{MARK}-{len(self.documents)}-{len(self.environ)}-of-a-length-that-is-taken"


def key_of(document: Document) -> tuple[str, str, str | None]:
    """What tells a document from others."""
    return document["kind"], document["metadata"]["name"], document["metadata"].get("namespace")


def host_of(name: str, namespace: str | None) -> str:
    """Where the server of a Backend or Service is."""
    return f"{name}.{namespace or 'default'}.example"


_WORDS = st.sampled_from(
    ["look", "change", "list_issues", "größe", "a b", "yes", "1e5", "null", "~", "x: y", "#", "$X"]
)
_EXPRESSIONS = st.sampled_from(["^list_", "look|change", ".*_issues?"])
_CONDITIONS = st.sampled_from([
    "request.mcp.backend == 'a'", "request.mcp.params.arguments.x == 1 && request.mcp.backend != 'b'",
    "request.method == 'POST'",
])  # fmt: skip
_DURATIONS = st.sampled_from(["250ms", "3s", "1m30s"])


def _lists(of: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(of, min_size=1, max_size=2, unique=True)


def _some(draw: st.DrawFn, **keys: Any) -> dict[str, Any]:
    """Some of these keys, with what their strategies or functions say."""
    found = {}
    for key, value in keys.items():
        if draw(st.booleans()):
            found[key] = draw(value) if isinstance(value, st.SearchStrategy) else value() if callable(value) else value
    return found


# -- What others refer to -----------------------------------------------------------------------------------------------


def _secret(draw: st.DrawFn, file: File, namespace: str | None, *keys: str) -> dict[str, Any]:
    """A reference to a Secret of its own, with a value for each key, wherever that stands."""
    values = {key: f"{file.secret_text()}-{key}" for key in keys}
    name = f"s{len(file.documents)}"
    how = draw(st.sampled_from(["stringData", "data", "annotation"]))
    if how == "annotation":
        file.add("v1", "Secret", name, namespace, stringData=dict.fromkeys(keys, "PLACEHOLDER"))
        annotations = {}
        for key, value in values.items():
            variable = f"VARIABLE_{len(file.environ)}"
            file.environ[variable] = value
            annotations[f"substitution.aigw.run/env/{key}"] = variable
        file.documents[-1]["metadata"]["annotations"] = annotations
        return {"name": name}
    encoded = {key: b64encode(value.encode()).decode() for key, value in values.items()}
    file.add("v1", "Secret", name, namespace, **{how: encoded if how == "data" else values})
    return {"name": name}


def _authority(draw: st.DrawFn, file: File, namespace: str | None) -> list[dict[str, str]]:
    kind = draw(st.sampled_from(["ConfigMap", "Secret"]))
    section = {"data" if kind == "ConfigMap" else "stringData": {"ca.crt": _another_pem(file)}}
    return [{"group": "", "kind": kind, "name": file.add("v1", kind, f"c{len(file.documents)}", namespace, **section)}]


def _another_pem(file: File) -> str:
    return PEM.replace("TUlJ", b64encode(f"{len(file.documents):03}".encode()).decode())


def _policy(draw: st.DrawFn, file: File, namespace: str | None, group: str, kind: str, name: str) -> None:
    validation: dict[str, Any] = {"hostname": "other.example"}
    if draw(st.booleans()):
        validation["caCertificateRefs"] = _authority(draw, file, namespace)
    else:
        validation["wellKnownCACertificates"] = "System"
    names = st.sampled_from([{"type": "Hostname", "hostname": "h.example"}, {"type": "URI", "uri": "spiffe://a/b"}])
    validation |= _some(draw, subjectAltNames=st.lists(names, min_size=1, max_size=2, unique_by=str))
    spec = {"targetRefs": [{"group": group, "kind": kind, "name": name}], "validation": validation}
    version = draw(st.sampled_from(["v1", "v1alpha3"]))
    file.add(f"{GATEWAY_GROUP}/{version}", "BackendTLSPolicy", f"{name}-{kind.lower()}", namespace, spec=spec)


def _backend(draw: st.DrawFn, file: File, name: str, namespace: str | None) -> dict[str, Any]:
    """A reference to a Backend, which is added unless it is there."""
    reference = {"name": name, "group": BACKEND_GROUP, "kind": "Backend"}
    if file.has("Backend", name, namespace):
        return reference
    hosts = [host_of(name, namespace), host_of(f"other-{name}", namespace)][: draw(st.integers(1, 2))]
    spec: dict[str, Any] = {"endpoints": [{"fqdn": {"hostname": host, "port": 8080}} for host in hosts]}
    spec |= draw(st.sampled_from([{}, {"appProtocols": [f"{BACKEND_GROUP}/h2c"]}, {"tls": {}}]))
    if "tls" in spec:
        spec["tls"] = _backend_tls(draw, file, namespace)
    file.add(f"{BACKEND_GROUP}/v1alpha1", "Backend", name, namespace, spec=spec)
    if "tls" not in spec and draw(st.booleans()):
        _policy(draw, file, namespace, BACKEND_GROUP, "Backend", name)
    return reference


def _backend_tls(draw: st.DrawFn, file: File, namespace: str | None) -> dict[str, Any]:
    tls = _some(
        draw, sni="sni.example", minVersion=st.sampled_from(["1.2", "1.3"]), maxVersion="1.3",
        ciphers=["ECDHE-RSA-AES128-GCM-SHA256"], ecdhCurves=["X25519"], signatureAlgorithms=["rsa_pss_rsae_sha256"],
        alpnProtocols=["h2"],
    )  # fmt: skip
    if draw(st.booleans()):
        return tls | {"insecureSkipVerify": True}
    return tls | _some(draw, caCertificateRefs=lambda: _authority(draw, file, namespace))


def _service(draw: st.DrawFn, file: File, name: str, namespace: str | None) -> dict[str, Any]:
    """A reference to a Service, which is added unless it is there."""
    reference = {"name": name, "port": 8080}
    if file.has("Service", name, namespace):
        return reference
    port: dict[str, Any] = {"port": 8080}
    port |= {"appProtocol": draw(st.sampled_from(["https", "kubernetes.io/h2c"]))}
    spec: dict[str, Any] = {"type": "ExternalName", "externalName": host_of(name, namespace)}
    said = draw(st.sampled_from(["nothing", "port", "policy"]))
    spec |= {"ports": [port]} if said == "port" else {}
    file.add("v1", "Service", name, namespace, spec=spec)
    if said == "policy":
        _policy(draw, file, namespace, "", "Service", name)
    return reference


def _gateway(draw: st.DrawFn, file: File, namespace: str | None, *, hostname: str | None = None) -> str:
    listener: dict[str, Any] = {"name": "one", "port": 81, "protocol": "HTTP"}
    listener |= {} if hostname is None else {"hostname": hostname}
    spec: dict[str, Any] = {"gatewayClassName": "c", "listeners": [listener]}
    spec |= _some(draw, addresses=[{"value": "0.0.0.0"}])
    return file.add(
        f"{GATEWAY_GROUP}/{draw(st.sampled_from(['v1', 'v1beta1']))}", "Gateway", "gateway", namespace, spec=spec
    )


# -- MCPRoutes ----------------------------------------------------------------------------------------------------------


@st.composite
def route_files(draw: st.DrawFn) -> File:
    """MCPRoutes with what they refer to. They share names of backends."""
    file = File()
    count = draw(st.integers(1, 3))
    # With a Gateway all are in its namespace.
    listened = draw(st.booleans())
    namespaces = [draw(st.sampled_from(NAMESPACES))] * count if listened else draw(_several(count, NAMESPACES))
    if listened:
        _gateway(draw, file, namespaces[0])
    for number, namespace in enumerate(namespaces):
        version = draw(st.sampled_from(["v1beta1", "v1alpha1"]))
        spec = _route_spec(draw, file, number, namespace)
        file.add(f"aigateway.envoyproxy.io/{version}", "MCPRoute", f"r{number}", namespace, spec=spec)
    return _shuffled(draw, file)


def _several(count: int, values: tuple[str | None, ...]) -> st.SearchStrategy[list[str | None]]:
    return st.lists(st.sampled_from(values), min_size=count, max_size=count)


def _shuffled(draw: st.DrawFn, file: File) -> File:
    """With documents that nothing names."""
    if draw(st.booleans()):
        to = draw(st.sampled_from([_backend, _service]))
        to(draw, file, f"stray{len(file.documents)}", draw(st.sampled_from(NAMESPACES)))
    if draw(st.booleans()):
        _authority(draw, file, draw(st.sampled_from(NAMESPACES)))
    file.documents = draw(st.permutations(file.documents))
    return file


def _route_spec(draw: st.DrawFn, file: File, number: int, namespace: str | None) -> dict[str, Any]:
    spec: dict[str, Any] = {"parentRefs": [{"name": "gateway"}]}
    # What tells it from the others.
    spec |= draw(
        st.sampled_from([
            {"path": f"/p{number}"},
            {"path": f"/p{number}", "headers": [{"name": "x-a", "value": "a|b", "type": "RegularExpression"}]},
            {"headers": [{"name": "x-route", "value": f"{number}"}]},
            {"path": "/tools", "hostnames": [f"h{number}.example", f"*.h{number}.example"]},
        ])
    )  # fmt: skip
    names = draw(st.lists(st.sampled_from(["a", "b", "tools"]), min_size=1, max_size=3, unique=True))
    spec["backendRefs"] = [_backend_ref(draw, file, name, namespace) for name in names]
    spec |= _some(draw, securityPolicy=lambda: _security_policy(draw, file, number, names, namespace))
    rules = st.fixed_dictionaries({"cel": _CONDITIONS}, optional={"action": st.just("Deny")})
    selector = st.fixed_dictionaries(
        {"rules": st.lists(rules, min_size=1, max_size=2, unique_by=str)}, optional={"defaultAction": st.just("Allow")}
    )
    return spec | _some(draw, backendSelector=selector)


def _backend_ref(draw: st.DrawFn, file: File, name: str, namespace: str | None) -> dict[str, Any]:
    to = draw(st.sampled_from([_backend, _service]))
    reference: dict[str, Any] = to(draw, file, name, namespace)
    selectors = st.tuples(
        st.sampled_from([("include", _WORDS), ("includeRegex", _EXPRESSIONS), None]),
        st.sampled_from([("exclude", _WORDS), ("excludeRegex", _EXPRESSIONS), None]),
    ).filter(any)
    chosen = {key: draw(_lists(of)) for key, of in filter(None, draw(selectors))}
    forwarded = st.sampled_from([{"name": "x-one"}, {"name": "x-two", "backendHeader": "x-second"}])
    return reference | _some(
        draw, path=st.sampled_from(["/", "/v1/mcp", "/mcp?x=${X:-y}"]), toolSelector=chosen,
        securityPolicy=lambda: {"apiKey": _api_key(draw, file, namespace)},
        forwardHeaders=st.lists(forwarded, min_size=1, max_size=2, unique_by=str),
    )  # fmt: skip


def _api_key(draw: st.DrawFn, file: File, namespace: str | None) -> dict[str, Any]:
    where: dict[str, Any] = draw(st.sampled_from([{}, {"header": "x-key"}, {"queryParam": "api key"}]))
    if draw(st.booleans()):
        return where | {"secretRef": _secret(draw, file, namespace, "apiKey")}
    return where | {"inline": f"{file.secret_text()}-inline"}


def _security_policy(
    draw: st.DrawFn, file: File, number: int, names: list[str], namespace: str | None
) -> dict[str, Any]:
    found = {}
    proof = draw(st.sampled_from(["oauth", "apiKeyAuth", "none"]))
    if proof == "oauth":
        found["oauth"] = _oauth(draw, file, number, namespace)
    elif proof == "apiKeyAuth":
        sources = st.sampled_from([{"headers": ["x-key"]}, {"params": ["key"]}, {"cookies": ["key"]}])
        found["apiKeyAuth"] = {
            "credentialRefs": [_secret(draw, file, namespace, f"k{number}", f"l{number}") for number in range(2)],
            "extractFrom": draw(st.lists(sources, min_size=1, max_size=2, unique_by=str)),
        } | _some(draw, forwardClientIDHeader="x-client")
    found |= _some(draw, extAuth=lambda: _ext_auth(draw, file, namespace))
    target = st.fixed_dictionaries({"backend": st.sampled_from(names), "tool": _WORDS})
    parts: dict[str, Any] = {
        "cel": _CONDITIONS,
        "action": st.just("Deny"),
        "target": st.fixed_dictionaries({"tools": st.lists(target, min_size=1, max_size=2, unique_by=str)}),
    }
    if proof == "oauth":
        claims = st.fixed_dictionaries({"name": st.sampled_from(["team", "a.b"]), "values": _lists(_WORDS)})
        jwt = {"scopes": _lists(st.sampled_from(["read", "write"])), "claims": st.lists(claims, min_size=1, max_size=1)}
        some = st.sampled_from([["scopes"], ["claims"], ["scopes", "claims"]])
        chosen = some.flatmap(lambda keys: st.fixed_dictionaries({key: jwt[key] for key in keys}))
        parts["source"] = st.fixed_dictionaries({"jwt": chosen})
    rules = st.lists(st.fixed_dictionaries({}, optional=parts), min_size=1, max_size=3, unique_by=str)
    return found | _some(
        draw,
        authorization=st.fixed_dictionaries({"rules": rules}, optional={"defaultAction": st.just("Allow")}),
    )


def _oauth(draw: st.DrawFn, file: File, number: int, namespace: str | None) -> dict[str, Any]:
    # An issuer has the same keys everywhere: each route has one of its own.
    keys = json.dumps({"keys": [_PUBLIC]})
    told = {"resource": "https://gw.example/mcp"} | _some(
        draw, resourceName="Tools", scopesSupported=_lists(st.sampled_from(["read", "write"])),
        resourceDocumentation="https://gw.example/docs", resourcePolicyUri="https://gw.example/policy",
        resourceSigningAlgValuesSupported=["RS256"],
    )  # fmt: skip
    sources: list[Callable[[], dict[str, Any]]] = [
        lambda: {"remoteJWKS": {"uri": "https://keys.example/jwks"} | _some(draw, cacheDuration=_MINUTES)},
        lambda: {"localJWKS": {"inline": keys}},
        lambda: {
            "localJWKS": {
                "type": "ValueRef",
                "valueRef": {
                    "group": "",
                    "kind": "ConfigMap",
                    "name": file.add("v1", "ConfigMap", f"c{len(file.documents)}", namespace, data={"jwks": keys}),
                },
            }
        },
    ]
    claims = st.sampled_from([{"claim": "sub", "header": "x-user"}, {"claim": "a.b", "header": "x-team"}])
    return {"issuer": f"https://idp{number}.example", "protectedResourceMetadata": told} | _some(
        draw, audiences=_lists(st.sampled_from(["one", "two"])), jwks=lambda: draw(st.sampled_from(sources))(),
        claimToHeaders=st.lists(claims, min_size=1, max_size=2, unique_by=str),
    )  # fmt: skip


_MINUTES = st.sampled_from(["60s", "1m30s", "1h"])
_PUBLIC = {
    "kty": "EC", "crv": "P-256", "kid": "k", "alg": "ES256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}  # fmt: skip
"""A public key (RFC 7515, appendix A.3)."""


def _ext_auth(draw: st.DrawFn, file: File, namespace: str | None) -> dict[str, Any]:
    file.add(
        f"{BACKEND_GROUP}/v1alpha1", "Backend", name := f"authz{len(file.documents)}", namespace,
        spec={"endpoints": [{"fqdn": {"hostname": host_of(name, namespace), "port": 9000}}]},
    )  # fmt: skip
    reference = {"name": name, "group": BACKEND_GROUP, "kind": "Backend"}
    service: dict[str, Any] = draw(st.sampled_from([{"backendRefs": [reference]}, {"backendRef": reference}]))
    extensions = st.sampled_from([{"name": "a", "value": "b"}, {"name": "c", "value": "d"}])
    found: dict[str, Any] = {"grpc": service} | _some(
        draw, contextExtensions=st.lists(extensions, min_size=1, max_size=2, unique_by=str)
    )
    if draw(st.booleans()):
        path = draw(st.sampled_from([{}, {"path": "/check"}, {"pathOverride": "/check"}]))
        found = {"http": service | path | _some(draw, headersToBackend=["x-of-service"])}
    return found | _some(
        draw, headersToExtAuth=["x-asked"], bodyToExtAuth={"maxRequestBytes": 1024}, failOpen=True, statusOnError=503,
        timeout=_DURATIONS,
    )  # fmt: skip


# -- Registrations ------------------------------------------------------------------------------------------------------


@st.composite
def registration_files(draw: st.DrawFn) -> File:
    """Kuadrant's MCPServerRegistrations with what they refer to."""
    file = File()
    count = draw(st.integers(1, 3))
    namespaces = draw(_several(count, NAMESPACES))
    names: list[str] = []
    for number, namespace in enumerate(namespaces):
        name, prefix = f"m{number}", f"p{number}_"
        spec: dict[str, Any] = {"targetRef": {"name": f"{name}-route"}, "prefix": prefix} | _some(
            draw, path=f"/v{number}", userSpecificList="Enabled",
            credentialRef=lambda namespace=namespace: _secret(draw, file, namespace, "token"),
            category=["c"], hint="h", tags=["t"],
        )  # fmt: skip
        disabled = count > 1 and number == 0 and draw(st.booleans())
        spec |= {"state": "Disabled"} if disabled else {}
        if _http_route(draw, file, name, namespace) and draw(st.booleans()):
            spec["caCertSecretRef"] = _ca_secret(file, namespace)
        file.add("mcp.kuadrant.io/v1", "MCPServerRegistration", name, namespace, spec=spec)
        names += [] if disabled else [f"{prefix}look", f"{prefix}change"]
    for number in range(draw(st.integers(0, 2))):
        spec = {"tools": draw(_lists(st.sampled_from(names)))} | _some(draw, prompts=_lists(st.sampled_from(names)))
        file.add("mcp.kuadrant.io/v1", "MCPVirtualServer", f"v{number}", draw(st.sampled_from(NAMESPACES)), spec=spec)
    if draw(st.booleans()):
        namespace = draw(st.sampled_from(NAMESPACES))
        hostname, public = draw(
            st.sampled_from([(None, {}), ("one.example", {}), (None, {"publicHost": "gw.example"})])
        )
        target = {"name": _gateway(draw, file, namespace, hostname=hostname), "sectionName": "one"}
        spec = {"targetRef": target} | public | _some(
            draw, privateHost="in.example", backendPingIntervalSeconds=20, logLevel="debug",
            maxBodyBytes=1000, sessionStore={"secretName": "s"},
        )  # fmt: skip
        file.add("mcp.kuadrant.io/v1", "MCPGatewayExtension", "extension", namespace, spec=spec)
    return _shuffled(draw, file)


def _ca_secret(file: File, namespace: str | None) -> dict[str, str]:
    return {
        "name": file.add(
            "v1", "Secret", f"s{len(file.documents)}", namespace, stringData={"ca.crt": _another_pem(file)}
        )
    }


def _http_route(draw: st.DrawFn, file: File, name: str, namespace: str | None) -> bool:
    """Adds one. Whether the server's certificate is verified, or may be."""
    hostname = {"group": "networking.istio.io", "kind": "Hostname", "name": host_of(name, namespace), "port": 8443}
    backend = draw(st.sampled_from([_backend, _service, lambda *_: hostname]))(draw, file, name, namespace)
    some = [{"set": [{"name": "x-set", "value": file.secret_text()}]}, {"add": [{"name": "x-add", "value": "a"}]}]
    changes = draw(st.sampled_from([*some, some[0] | some[1]]))
    filters = [{"type": "RequestHeaderModifier", "requestHeaderModifier": changes}]
    rule = {"backendRefs": [backend]} | _some(draw, filters=filters, timeouts={"request": "1s"})
    spec = {"hostnames": [f"{name}.mcp.local"], "rules": [rule]}
    file.add(f"{GATEWAY_GROUP}/v1", "HTTPRoute", f"{name}-route", namespace, spec=spec)
    tls = [one["spec"].get("tls", {}) for one in file.documents if key_of(one) == ("Backend", name, namespace)]
    return not any(one.get("insecureSkipVerify") for one in tls)


files = st.one_of(route_files(), registration_files())


# -- What can be done to them -------------------------------------------------------------------------------------------


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Of all that is in a document, sections and lists too."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from paths(item, (*path, key))


def at(document: Any, path: Path) -> Any:
    """What stands there."""
    for key in path:
        document = document[key]
    return document


def changed(file: File, index: int, change: Callable[[Document], None]) -> File:
    """The same with one document in which something is changed."""
    documents = list(file.documents)
    documents[index] = copy.deepcopy(documents[index])
    change(documents[index])
    return File(documents, file.environ)


def without(file: File, index: int, path: Path) -> File:
    """The same without a key, or without an entry of a list."""

    def remove(document: Document) -> None:
        del at(document, path[:-1])[path[-1]]

    return changed(file, index, remove)


def with_value(file: File, index: int, path: Path, value: Any) -> File:
    """The same with another value, or one more."""

    def put(document: Document) -> None:
        at(document, path[:-1])[path[-1]] = value

    return changed(file, index, put)


_JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-1, 2**65), st.just(""), st.just([]), st.just({}), st.just([[]]),
    st.just("a" * 2000),
    st.just("${"), st.just("${NOT_SET}"), st.just("\ud800"), st.just("*."), st.just("("), st.just("\x00"), st.just("x__y"),
    st.just({"name": "a"}), st.just([{"name": "a"}]), st.just("/"), st.just("red"), st.just("a"), st.text(max_size=5),
    st.floats(),
)  # fmt: skip


@st.composite
def spoilt_files(draw: st.DrawFn) -> File:
    """Files that were valid, with up to three things that are not."""
    file = draw(files)
    for _ in range(draw(st.integers(1, 3))):
        index = draw(st.integers(0, len(file.documents) - 1))
        places = list(paths(file.documents[index]))
        how = draw(st.sampled_from(["junk", "without", "leave out", "twice", "move"]))
        if how == "junk" and places:
            file = with_value(file, index, draw(st.sampled_from(places)), draw(_JUNK))
        elif how == "without" and places:
            file = without(file, index, draw(st.sampled_from(places)))
        elif how == "leave out" and len(file.documents) > 1:
            file = File([one for number, one in enumerate(file.documents) if number != index], file.environ)
        elif how == "twice":
            file = File([*file.documents, file.documents[index]], file.environ)
        elif how == "move" and isinstance(file.documents[index].get("metadata"), dict):
            file = with_value(file, index, ("metadata", "namespace"), draw(st.sampled_from(["red", "blue", "default"])))
    return file
