from __future__ import annotations

from typing import Any

import pytest

from mcp_extproc.config import ConfigError, loads
from mcp_extproc.config.kubernetes.documents import RESTRICTING, Documents
from mcp_extproc.config.yaml_document import YamlDocument
from tests.unit.config.kubernetes.support import (
    backend,
    config_map,
    document,
    error_of,
    load,
    route,
    secret,
    text_of,
    tls_policy,
    to_backend,
)


def problems_of(*documents: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(*documents)
    return [str(problem) for problem in caught.value.problems]


def test_a_document_that_is_wrong_is_not_reported_as_missing() -> None:
    assert error_of(route(), backend(endpoints=[{"fqdn": {"hostname": "a.example", "port": 70000}}])) == (
        "Backend default/a spec.endpoints[0].fqdn.port: expected a number of at most 65535"
    )


class Counted(dict[str, int]):
    """Lines of a document, and how often all of them are looked at."""

    looks = 0

    def items(self) -> Any:
        self.looks += 1
        return super().items()


def test_a_list_is_read_at_once_whatever_its_length() -> None:
    objects = [document("Deployment", "apps/v1", f"d{number}", {}) for number in range(300)]
    lines = Counted({"": 1} | {f"items[{number}].spec.x": number for number in range(300)})
    found = Documents([YamlDocument({"kind": "List", "items": [*objects, backend(nothing=1)]}, lines)], {})
    assert (lines.looks, len(found.warnings), len(found.problems)) == (1, 300, 1)


def test_unknown_keys_are_errors() -> None:
    assert error_of(route(backendRef=[]), backend()) == (
        "MCPRoute default/r spec.backendRef: unknown key, did you mean backendRefs?"
    )


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("aigateway.envoyproxy.io/v1", "expected aigateway.envoyproxy.io/v1beta1 or aigateway.envoyproxy.io/v1alpha1"),
        ("example.com/v1", "expected aigateway.envoyproxy.io/v1beta1 or aigateway.envoyproxy.io/v1alpha1"),
    ],
)
def test_the_group_and_version_have_to_be_right(version: str, says: str) -> None:
    assert error_of(route(api_version=version)) == f"MCPRoute default/r apiVersion: {says}"


def test_a_kind_of_another_project_is_named() -> None:
    other = document("Gateway", "networking.istio.io/v1", "g", {})
    assert load(route(), backend(), other).warnings == (
        "line 23, Gateway default/g: has no effect: objects of this kind are not read",
    )


@pytest.mark.parametrize(
    ("kind", "version", "meant"),
    [
        ("McpRoute", "aigateway.envoyproxy.io/v1beta1", "MCPRoute"),
        ("Backends", "gateway.envoyproxy.io/v1alpha1", "Backend"),
        ("BackendTlsPolicy", "gateway.networking.k8s.io/v1", "BackendTLSPolicy"),
        ("SecurityPolicys", "gateway.envoyproxy.io/v1alpha1", "SecurityPolicy"),
        ("Secrets", "v1", "Secret"),
    ],
)
def test_a_kind_that_is_misspelt_is_an_error(kind: str, version: str, meant: str) -> None:
    """It would be left out: a policy, a credential, a server."""
    wrong = document(kind, version, "p", {})
    assert error_of(route(), backend(), wrong) == f"{kind} default/p kind: unknown kind, did you mean {meant}?"


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        ("HTTPRouteFilter", "gateway.envoyproxy.io/v1alpha1"),
        ("BackendTrafficPolicy", "gateway.envoyproxy.io/v1alpha1"),
        ("GatewayClass", "gateway.networking.k8s.io/v1"),
        ("GRPCRoute", "gateway.networking.k8s.io/v1"),
        ("ServiceAccount", "v1"),
        ("Backends", "example.com/v1"),
    ],
)
def test_kinds_that_look_alike_are_none_of_ours(kind: str, version: str) -> None:
    assert len(load(route(), backend(), document(kind, version, "p", {})).warnings) == 1


def test_a_name_that_is_misspelt() -> None:
    assert error_of(route(backendRefs=to_backend(name="alpha")), backend("alpah")) == (
        "MCPRoute default/r spec.backendRefs[0].name: names the Backend default/alpha, and there is no such document,"
        " did you mean alpah?"
    )


def test_where_a_credential_goes() -> None:
    """`spec.headers`, which has the name, chooses the route."""
    assert error_of(route(backendRefs=to_backend(headers={"Authorization": "x"})), backend()) == (
        "MCPRoute default/r spec.backendRefs[0].headers: unknown key: a credential goes into securityPolicy.apiKey,"
        " headers of callers into forwardHeaders"
    )


@pytest.mark.parametrize("kind", RESTRICTING)
def test_what_restricts_callers_is_not_left_out(kind: str) -> None:
    policy = document(kind, "example.com/v1", "p", {})
    assert error_of(route(), backend(), policy).startswith(
        f"{kind} default/p: is not read, and restricts who may call: say so in"
    )


def test_a_name_is_given_once_in_a_namespace() -> None:
    assert error_of(route(), backend(), backend()) == (
        "Backend default/a metadata.name: is given twice, first on line 13: leave one of them out"
    )
    elsewhere = backend()
    elsewhere["metadata"]["namespace"] = "other"
    assert load(route(), backend(), elsewhere).config.servers.keys() == {"a"}


def test_names_in_other_namespaces_are_others() -> None:
    elsewhere = route()
    elsewhere["metadata"]["namespace"] = "team"
    assert error_of(elsewhere, backend()) == (
        "MCPRoute team/r spec.backendRefs[0].name: names the Backend team/a, and there is no such document, but default/a"
        " is: references stay in the namespace of their document"
    )


@pytest.mark.parametrize("text", ["apiVersion: v1\n", "apiVersion: v1\nkind: 1\n", "---\n- 1\n---\napiVersion: v1\n"])
def test_what_is_no_object(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a Kubernetes object, with apiVersion, kind and metadata"):
        loads(text, "route.yaml", {})


def test_null_is_absent_and_what_kubernetes_writes_is_not_read() -> None:
    written = route(headers=None, securityPolicy=None)
    written["metadata"] |= {"uid": "1", "creationTimestamp": None, "labels": {"a": "b"}, "managedFields": []}
    assert load(written | {"status": {"conditions": []}}, backend()).warnings == ()


@pytest.mark.parametrize(
    ("where", "key", "meant"),
    [("metadata", "anotations", "annotations"), ("spec", "externalname", "externalName"), ("spec", "Ports", "ports")],
)
def test_a_slip_beside_what_kubernetes_writes_is_an_error(where: str, key: str, meant: str) -> None:
    """Without the annotation, a placeholder would be sent as the credential; without the port, plain HTTP be spoken."""
    ports = [{"port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 30000}]
    spec = {
        "type": "ExternalName",
        "externalName": "b.example",
        "ports": ports,
        "selector": {"a": "b"},
        "clusterIP": "None",
    }
    there = document("Service", "v1", "b", spec)
    there["metadata"] |= {"labels": {"a": "b"}, "resourceVersion": "7", "uid": "8"}
    named = route(backendRefs=[{"name": "b", "port": 80}])
    assert load(named, there).warnings == ()
    wrong = there | {where: there[where] | {key: {}}}
    with pytest.raises(ConfigError, match=f"Service default/b {where}.{key}: unknown key, did you mean {meant}"):
        load(named, wrong)


def test_documents_that_nothing_names_are_named() -> None:
    """In one sentence for each kind: clusters are full of Secrets."""
    others = [secret("t", token="x"), config_map("kube-root-ca.crt"), secret("u", token="x"), backend("b")]
    assert list(load(route(), backend(), *others).warnings) == [
        "line 43, Backend default/b: has no effect: no document that is read names it",
        "line 23, Secret default/t: has no effect: no document that is read names it; nor default/u (line 36)",
        "line 30, ConfigMap default/kube-root-ca.crt: has no effect: no document that is read names it",
    ]


def test_a_policy_for_what_nothing_names_is_named() -> None:
    """The Backend is there, and no route has it."""
    policy, unnamed = load(route(), backend(), backend("b"), tls_policy("b")).warnings
    assert policy.endswith(
        "BackendTLSPolicy default/b-tls spec.targetRefs[0].name: has no effect: no document that is read names Backend"
        " default/b"
    )
    assert "Backend default/b: has no effect" in unnamed


def test_values_are_not_repeated_in_errors() -> None:
    refused = route(backendRefs=[{"name": "a", "port": "hunter2-s3cret"}])
    assert "hunter2" not in "\n".join(problems_of(refused))


def test_names_that_are_none_are_quoted() -> None:
    [problem] = problems_of(document("MCPRoute", "aigateway.envoyproxy.io/v1beta1", "a\x1b[31m", {}))[:1]
    assert problem.startswith('line 5, MCPRoute default/"a\\u001b[31m" spec.parentRefs: required, but missing')


def test_lines_are_those_of_the_file() -> None:
    text = f"# A comment.\n\n---\n{text_of(route(), backend(type='DynamicResolver', endpoints=None))}"
    with pytest.raises(ConfigError) as caught:
        loads(text, "route.yaml", {})
    [problem] = caught.value.problems
    assert problem.line == text.splitlines().index("  type: DynamicResolver") + 1


@pytest.mark.parametrize("text", ["1e5", "0o7", "1.5", "true"])
def test_text_that_reads_like_something_else_stays_text(text: str) -> None:
    """In the documents of these tests, too."""
    [server] = load(route(backendRefs=to_backend(toolSelector={"include": [text]})), backend()).config.servers.values()
    assert server.tools.include == (text,)
