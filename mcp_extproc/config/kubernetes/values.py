"""Values of Secrets and ConfigMaps that other documents refer to."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from mcp_extproc.config.bounds import FILE_BYTES
from mcp_extproc.config.config_error import ConfigError, Problem, quoted
from mcp_extproc.config.kubernetes.documents import Document
from mcp_extproc.config.text_file import text_in

FROM_ENV: Final = "substitution.aigw.run/env/"
FROM_FILE: Final = "substitution.aigw.run/file/"
"""Annotations of a Secret: what follows is a key of it, and the value says where its own value is."""


class ValueProblem(Exception):
    """A value can't be had."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem = problem


class Values:
    """Reads values of Secrets and ConfigMaps.

    Args:
        environ: for annotations.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.files: list[Path] = []
        """That were read."""
        self._environ = environ

    def of_secret(self, document: Document, key: str) -> str:
        """A value of a Secret, as text.

        Raises:
            ValueProblem: there is none.
        """
        annotations = document.object.metadata.annotations or {}
        if (variable := annotations.get(FROM_ENV + key)) is not None:
            if variable not in self._environ:
                raise ValueProblem(_annotated(document, FROM_ENV + key, "the environment variable is not set: set it"))
            return self._environ[variable]
        if (place := annotations.get(FROM_FILE + key)) is not None:
            return self._in_file(document, FROM_FILE + key, place)
        secret = document.object
        if secret.string_data is not None and key in secret.string_data:
            return str(secret.string_data[key])
        if secret.data is None or key not in secret.data:
            raise ValueProblem(document.problem(["data"], f"has no key {quoted(key)}: add it"))
        try:
            # kubectl wraps long values.
            return base64.b64decode("".join(secret.data[key].split()), validate=True).decode()
        except (binascii.Error, ValueError):
            message = "expected Base64 of text in UTF-8: put text as it is under stringData"
        raise ValueProblem(document.problem(["data", key], message))

    def all_of_secret(self, document: Document) -> Iterator[tuple[str, str]]:
        """Each key with its value.

        Raises:
            ValueProblem: one can't be had.
        """
        annotated = [
            name.removeprefix(start)
            for name in document.object.metadata.annotations or {}
            for start in (FROM_ENV, FROM_FILE)
            if name.startswith(start)
        ]
        keys = (*(document.object.data or {}), *(document.object.string_data or {}), *annotated)
        for key in dict.fromkeys(keys):
            yield key, self.of_secret(document, key)

    def _in_file(self, document: Document, annotation: str, place: str) -> str:
        home = self._environ.get("HOME", "")
        path = Path(f"{home}{place[1:]}" if place.startswith("~/") and home else place)
        self.files.append(path)
        try:
            return text_in(path, FILE_BYTES).strip("\n")
        except ConfigError as error:
            message = f"of the file: {error.problems[0].message}"
        raise ValueProblem(_annotated(document, annotation, message))


def of_config_map(document: Document, key: str, *, or_any: bool = False) -> str:
    """A value of a ConfigMap.

    Args:
        document: the ConfigMap.
        key: of the value.
        or_any: whether any other one will do.

    Raises:
        ValueProblem: there is none.
    """
    data = document.object.data or {}
    if key in data:
        return str(data[key])
    if or_any and data:
        return str(next(iter(data.values())))
    raise ValueProblem(document.problem(["data"], f"has no key {quoted(key)}: add it"))


def _annotated(document: Document, annotation: str, message: str) -> Problem:
    return document.problem(["metadata", "annotations", annotation], message)
