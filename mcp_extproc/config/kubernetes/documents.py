"""The documents of a file, by kind and name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from mcp_extproc.config.config_error import Problem, line_of, quoted
from mcp_extproc.config.config_error import field as field_path
from mcp_extproc.config.kubernetes.envoy_gateway import Backend
from mcp_extproc.config.kubernetes.gateway_api import BackendTlsPolicy, ConfigMap, DataObject, Gateway, Secret, Service
from mcp_extproc.config.kubernetes.http_route import HttpRoute
from mcp_extproc.config.kubernetes.kuadrant import GatewayExtension, Registration, VirtualServerObject
from mcp_extproc.config.kubernetes.mcp_route import McpRoute
from mcp_extproc.config.kubernetes.objects import DEFAULT_NAMESPACE, Object
from mcp_extproc.config.problems import problems_of
from mcp_extproc.config.variables import substitute
from mcp_extproc.config.yaml_document import YamlDocument

FieldPath = Sequence[str | int]


@dataclass(frozen=True, slots=True)
class Api:
    """A kind of object that is read."""

    group: str
    versions: tuple[str, ...]
    model: type[Object[Any] | DataObject]

    @property
    def api_versions(self) -> tuple[str, ...]:
        """As in ``apiVersion``."""
        return tuple(f"{self.group}/{version}" if self.group else version for version in self.versions)


KINDS: Final[Mapping[str, Api]] = {
    "MCPRoute": Api("aigateway.envoyproxy.io", ("v1beta1", "v1alpha1"), McpRoute),
    "Backend": Api("gateway.envoyproxy.io", ("v1alpha1",), Backend),
    "BackendTLSPolicy": Api("gateway.networking.k8s.io", ("v1", "v1alpha3"), BackendTlsPolicy),
    "Gateway": Api("gateway.networking.k8s.io", ("v1", "v1beta1"), Gateway),
    "HTTPRoute": Api("gateway.networking.k8s.io", ("v1", "v1beta1"), HttpRoute),
    "MCPServerRegistration": Api("mcp.kuadrant.io", ("v1", "v1alpha1"), Registration),
    "MCPVirtualServer": Api("mcp.kuadrant.io", ("v1", "v1alpha1"), VirtualServerObject),
    "MCPGatewayExtension": Api("mcp.kuadrant.io", ("v1", "v1alpha1"), GatewayExtension),
    "Secret": Api("", ("v1",), Secret),
    "ConfigMap": Api("", ("v1",), ConfigMap),
    "Service": Api("", ("v1",), Service),
}
"""The kinds that are read."""

RESTRICTING: Final[Mapping[str, str]] = {
    "SecurityPolicy": "securityPolicy of the MCPRoute",
    "AuthPolicy": "securityPolicy of an MCPRoute, or `authentication` and `authorization` of the native format",
    "AuthorizationPolicy": "`authorization` of the native format",
    "RequestAuthentication": "`authentication` of the native format",
}
"""Kinds that restrict who may call, with where to say so instead. Without them everybody could."""


@dataclass(frozen=True, slots=True)
class Document:
    """One object of a file."""

    kind: str
    namespace: str
    name: str
    object: Any = field(repr=False)
    """Of the model of its kind."""
    lines: Mapping[str, int] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"

    def problem(self, path: FieldPath, message: str) -> Problem:
        """A problem of a field."""
        return _problem(str(self), self.lines, field_path(path), message)


def _problem(who: str, lines: Mapping[str, int], path: str, message: str) -> Problem:
    return Problem(message, f"{who} {path}".rstrip(), line_of(path, lines) or lines.get(""))


class Documents:
    """All documents of a file.

    Args:
        documents: with their lines.
        environ: where ``${VAR}`` is looked up.
    """

    def __init__(self, documents: Sequence[YamlDocument], environ: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self.unread: list[str] = []
        """Kinds that have no effect."""
        self._environ = environ
        self._found: dict[tuple[str, str, str], Document] = {}
        self._broken: set[str] = set()
        for document in documents:
            for data, lines in _items(document):
                self._read(data, lines)

    def of_kind(self, kind: str) -> Iterator[Document]:
        """In the file's order."""
        return (document for document in self._found.values() if document.kind == kind)

    def kinds(self) -> Iterator[str]:
        """Of all, in the file's order, each as often as it is there."""
        return (document.kind for document in self._found.values())

    def get(self, kind: str, namespace: str, name: str) -> Document | None:
        """The one of this name."""
        return self._found.get((kind, namespace, name))

    def hint(self, kind: str, namespace: str, name: str) -> str:
        """What may be meant by a name that no document has; empty where nothing comes near."""
        others = [document for document in self.of_kind(kind) if document.name == name]
        if others:
            return f", but {others[0].namespace}/{name} is: references stay in the namespace of their document"
        near = difflib.get_close_matches(
            name, [one.name for one in self.of_kind(kind) if one.namespace == namespace], n=1
        )
        return f", did you mean {near[0]}?" if near else ""

    def is_broken(self, kind: str, namespace: str, name: str) -> bool:
        """Whether there is one of this name that can't be read, which is a problem by itself."""
        return f"{kind} {namespace}/{name}" in self._broken

    def _read(self, data: Any, lines: Mapping[str, int]) -> None:
        if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
            expected = "expected a Kubernetes object, with apiVersion, kind and metadata"
            self.problems.append(_problem(_UNNAMED, lines, "", expected))
            return
        who, kind, api_version = _named(data), data["kind"], data.get("apiVersion")
        api = KINDS.get(kind)
        if api is not None and api_version in api.api_versions:
            self._add(who, api, data, lines)
        elif api is not None and _is_meant(api_version, api):
            expected = " or ".join(api.api_versions)
            self._broken.add(who)
            self.problems.append(_problem(who, lines, "apiVersion", f"expected {expected}"))
        elif kind in RESTRICTING:
            instead = f"is not read, and restricts who may call: say so in {RESTRICTING[kind]}, and leave it out"
            self.problems.append(_problem(who, lines, "", instead))
        elif (meant := _meant(kind, api_version)) is not None:
            self.problems.append(_problem(who, lines, "kind", f"unknown kind, did you mean {meant}?"))
        else:
            self.unread.append(kind)
            self.warnings.append(str(_problem(who, lines, "", "has no effect: objects of this kind are not read")))

    def _add(self, who: str, api: Api, data: dict[str, Any], lines: Mapping[str, int]) -> None:
        problems: list[Problem] = []
        replaced = substitute(data, self._environ, problems)
        if not problems:
            try:
                found = api.model.model_validate(replaced)
            except ValidationError as error:
                problems = problems_of(error, api.model)
        if problems:
            # Outside the except block: pydantic's error contains values and must not be chained.
            self._broken.add(who)
            self.problems += [_problem(who, lines, problem.path, problem.message) for problem in problems]
            return
        document = Document(data["kind"], found.metadata.namespace, found.metadata.name, found, lines)
        key = (document.kind, document.namespace, document.name)
        if key in self._found:
            first = self._found[key].lines[""]
            self.problems.append(
                document.problem(["metadata", "name"], f"is given twice, first on line {first}: leave one of them out")
            )
            return
        self._found[key] = document


def _items(document: YamlDocument) -> Iterator[tuple[Any, Mapping[str, int]]]:
    """The objects of a document: itself, or those of a ``List``, as kubectl prints them."""
    data = document.data
    if not isinstance(data, dict) or data.get("kind") != "List" or not isinstance(data.get("items"), list):
        yield data, document.lines
        return
    lines: list[dict[str, int]] = [{} for _ in data["items"]]
    for path, line in document.lines.items():
        if (place := _ITEM.match(path)) is not None:
            lines[int(place[1])][path[place.end() :]] = line
    yield from zip(data["items"], lines, strict=True)


def _named(data: Mapping[str, Any]) -> str:
    """A document for a message: kind, namespace and name, as far as they can be told."""
    metadata = data.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    words = (data["kind"], metadata.get("namespace") or DEFAULT_NAMESPACE, metadata.get("name") or "?")
    kind, namespace, name = (
        quoted(word) if isinstance(word, str) and not _NAME.fullmatch(word) else word for word in words
    )
    return f"{kind} {namespace}/{name}"


_UNNAMED: Final = "a document"

_NEAR: Final = 0.85
"""Of :func:`difflib.get_close_matches`: other projects have `HTTPRouteFilter`, `GatewayClass` and `BackendTrafficPolicy`."""


def _meant(kind: str, api_version: object) -> str | None:
    """The kind that is misspelt. What is left out by a slip would be policies, credentials and whole servers."""
    names = {name.casefold(): name for name in (*KINDS, *RESTRICTING)}
    near = difflib.get_close_matches(kind.casefold(), names, n=1, cutoff=_NEAR)
    if not near:
        return None
    meant = names[near[0]]
    group = api_version.rpartition("/")[0] if isinstance(api_version, str) else None
    return meant if group is None or meant in RESTRICTING or group == KINDS[meant].group else None


_NAME = re.compile(r"[A-Za-z0-9.-]{1,253}")
_ITEM = re.compile(r"items\[(\d+)\]\.?")


def _is_meant(api_version: object, api: Api) -> bool:
    """Whether a wrong ``apiVersion`` is a slip: other projects have kinds of the same name."""
    if not isinstance(api_version, str):
        return True
    group = api_version.rpartition("/")[0]
    return group == api.group or not api.group or api.model in (McpRoute, Registration, VirtualServerObject)
