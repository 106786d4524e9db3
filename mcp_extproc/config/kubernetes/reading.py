"""What one reading of a file collects besides the configuration: problems, warnings, and where each part comes from."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from mcp_extproc.config.config_error import Problem
from mcp_extproc.config.config_error import field as field_path
from mcp_extproc.config.kubernetes.documents import Document, Documents, FieldPath
from mcp_extproc.config.kubernetes.terms import in_documents_words
from mcp_extproc.config.kubernetes.values import ValueProblem, Values, of_config_map

_NATIVE_PATH: Final = re.compile(
    r'(?<![\w.`])(?:virtual_servers|servers|authentication|authorization|listen)(?:\.[\w-]+|\["[^"]*"\]|\[\d+\])+'
)
"""In a message."""


@dataclass(slots=True)
class Reading:
    """One reading of a file."""

    documents: Documents
    values: Values
    resolve: Mapping[str, str]
    """``host:port`` of Services, by ``name.namespace``."""
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _warned: set[str] = field(default_factory=set)
    _named: set[str] = field(default_factory=set)
    _origins: dict[str, tuple[Document, tuple[str | int, ...]]] = field(default_factory=dict)

    def refuse(self, document: Document, path: FieldPath, message: str) -> None:
        """Note a problem of a field."""
        problem = document.problem(path, message)
        if problem not in self.problems:
            self.problems.append(problem)

    def warn(self, document: Document, path: FieldPath, message: str) -> None:
        """Note what a field does not do, or does otherwise."""
        warning = str(document.problem(path, message))
        if warning not in self._warned:
            self._warned.add(warning)
            self.warnings.append(warning)

    def unused(self, *kinds: str, because: str, besides: Collection[Document] = ()) -> None:
        """Note that documents of these kinds do nothing, besides some."""
        for kind in kinds:
            for document in self.documents.of_kind(kind):
                if document not in besides:
                    self.warn(document, [], f"has no effect: {because}")

    def unnamed(self, *kinds: str) -> None:
        """Note that documents of these kinds do nothing, as no other one names them: one warning for each kind. Clusters are
        full of Secrets."""
        for kind in kinds:
            found = sorted((one for one in self.documents.of_kind(kind) if not self.is_named(one)), key=str)
            if not found:
                continue
            first, *others = found
            so = "".join(f", {one.namespace}/{one.name} (line {one.lines['']})" for one in others)
            self.warn(first, [], f"has no effect: no document that is read names it{so and f'; nor{so[1:]}'}")

    def comes_from(self, native: FieldPath, document: Document, path: FieldPath) -> None:
        """Note where a part of the configuration comes from."""
        self._origins[field_path(native)] = document, tuple(path)

    def as_written(self, problem: Problem) -> Problem:
        """A problem of the configuration, at the field that it comes from."""
        # What is wrong with two servers has no path, and begins with the first of them.
        origin = self._origin(problem.path or problem.message)
        message = in_documents_words(_NATIVE_PATH.sub(self._place, problem.message))
        return replace(problem, message=message) if origin is None else origin[0].problem(origin[1], message)

    def _origin(self, native: str) -> tuple[Document, tuple[str | int, ...]] | None:
        within = [start for start in self._origins if native.startswith(start)]
        return self._origins[max(within, key=len)] if within else None

    def _place(self, native: re.Match[str]) -> str:
        origin = self._origin(native[0])
        return native[0] if origin is None else origin[0].problem(origin[1], "").path

    def named(
        self, document: Document, path: FieldPath, kind: str, name: str, namespace: str | None = None
    ) -> Document | None:
        """The document that a field names. If there is none, that is a problem."""
        where = namespace or document.namespace
        found = self.mentioned(kind, where, name)
        if found is None and not self.documents.is_broken(kind, where, name):
            hint = self.documents.hint(kind, where, name) or ": add it"
            self.refuse(document, path, f"names the {kind} {where}/{name}, and there is no such document{hint}")
        return found

    def mentioned(self, kind: str, namespace: str, name: str) -> Document | None:
        """A document of this name, if there is one."""
        found = self.documents.get(kind, namespace, name)
        if found is not None:
            self._named.add(str(found))
        return found

    def is_named(self, document: Document) -> bool:
        """Whether anything that is read has named it so far."""
        return str(document) in self._named

    def is_local(self, document: Document, path: FieldPath, namespace: str | None) -> bool:
        """Whether a reference stays in the document's namespace. If not, that is a problem."""
        if namespace in (None, document.namespace):
            return True
        self.refuse(document, [*path, "namespace"], "references to another namespace are refused: leave it out")
        return False

    def secret(self, document: Document, path: FieldPath, name: str, key: str) -> str | None:
        """A value of a Secret in the document's namespace."""
        found = self.named(document, path, "Secret", name)
        try:
            return None if found is None else self.values.of_secret(found, key)
        except ValueProblem as error:
            self.problems.append(error.problem)
        return None

    def config_map(
        self, document: Document, path: FieldPath, name: str, key: str, *, or_any: bool = False
    ) -> str | None:
        """A value of a ConfigMap in the document's namespace."""
        found = self.named(document, path, "ConfigMap", name)
        try:
            return None if found is None else of_config_map(found, key, or_any=or_any)
        except ValueProblem as error:
            self.problems.append(error.problem)
        return None
