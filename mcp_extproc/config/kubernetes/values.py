"""Values of Secrets and ConfigMaps that other documents refer to."""

from __future__ import annotations

import base64
import binascii
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from mcp_extproc.config.bounds import FILE_BYTES
from mcp_extproc.config.config_error import ConfigError, Problem, quoted
from mcp_extproc.config.kubernetes.documents import Document
from mcp_extproc.config.text_file import text_in

FROM_ENV: Final = "substitution.aigw.run/env/"
FROM_FILE: Final = "substitution.aigw.run/file/"
"""Annotations of a Secret: what follows is a key of it, and the value says where its own value is."""

_SUBSTITUTION: Final = "substitution.aigw.run/"
_CAPITALS: Final = re.compile(r"[A-Z][A-Z0-9_]*")


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
            ValueProblem: there is none, or an empty one.
        """
        annotations = document.object.metadata.annotations or {}
        if annotations.keys().isdisjoint((FROM_ENV + key, FROM_FILE + key)):
            _check_annotations(document, key)
        return self._filled(document, key)

    def _filled(self, document: Document, key: str) -> str:
        value = self._of_secret(document, key)
        if not without_line_breaks(value):
            raise ValueProblem(document.problem(["data"], f"the value of {quoted(key)} is empty: give it one"))
        return value

    def _of_secret(self, document: Document, key: str) -> str:
        annotations = document.object.metadata.annotations or {}
        if (variable := annotations.get(FROM_ENV + key)) is not None:
            if variable not in self._environ:
                # Somebody may have put the credential itself there.
                named = f" {variable}" if _CAPITALS.fullmatch(variable) else ""
                message = f"the environment variable{named} is not set: set it"
                raise ValueProblem(_annotated(document, FROM_ENV + key, message))
            return self._environ[variable]
        if (place := annotations.get(FROM_FILE + key)) is not None:
            return self._in_file(document, FROM_FILE + key, place)
        secret = document.object
        if secret.string_data is not None and key in secret.string_data:
            return str(secret.string_data[key])
        if secret.data is None or key not in secret.data:
            raise ValueProblem(_no_key(document, key, (*(secret.data or {}), *(secret.string_data or {}))))
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
        _check_annotations(document)
        annotated = [
            name.removeprefix(start)
            for name in document.object.metadata.annotations or {}
            for start in (FROM_ENV, FROM_FILE)
            if name.startswith(start)
        ]
        keys = (*(document.object.data or {}), *(document.object.string_data or {}), *annotated)
        for key in dict.fromkeys(keys):
            yield key, without_line_breaks(self._filled(document, key))

    def _in_file(self, document: Document, annotation: str, place: str) -> str:
        home = self._environ.get("HOME", "")
        path = Path(f"{home}{place[1:]}" if place.startswith("~/") and home else place)
        self.files.append(path)
        try:
            return text_in(path, FILE_BYTES).strip("\n")
        except ConfigError as error:
            message = f"of the file: {error.problems[0].message}"
        raise ValueProblem(_annotated(document, annotation, message))


def without_line_breaks(value: str) -> str:
    """A credential without line breaks at its end: ``kubectl create secret --from-file`` keeps that of the file."""
    return value.rstrip("\r\n")


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
    raise ValueProblem(_no_key(document, key, data))


def _no_key(document: Document, key: str, keys: Iterable[str]) -> Problem:
    near = _near(key, keys)
    hint = ": add it" if near is None else f", but {quoted(near)}: rename it"
    return document.problem(["data"], f"has no key {quoted(key)}{hint}")


def _near(key: str, keys: Iterable[str]) -> str | None:
    names = {one.casefold(): one for one in keys}
    found = difflib.get_close_matches(key.casefold(), names, n=1, cutoff=0.8)
    return names[found[0]] if found else None


def _check_annotations(document: Document, key: str | None = None) -> None:
    """What stands in the Secret may be a placeholder, which must not count for a slip in an annotation.

    Args:
        document: the Secret.
        key: that is read and has no annotation of its own; ``None`` where all are read.

    Raises:
        ValueProblem: one says where the value of no key is, or of one that is called nearly as this one.
    """
    secret = document.object
    keys = {*(secret.data or {}), *(secret.string_data or {})}
    for name in secret.metadata.annotations or {}:
        if not name.startswith(_SUBSTITUTION):
            continue
        start = next((start for start in (FROM_ENV, FROM_FILE) if name.startswith(start)), None)
        if start is None:
            message = f"expected {FROM_ENV}{key or 'KEY'} or {FROM_FILE}{key or 'KEY'}"
        elif key is not None and (other := name.removeprefix(start)) not in keys and _near(key, [other]) is not None:
            message = f"the Secret has no key {quoted(other)}: did you mean {start}{key}?"
        else:
            continue
        raise ValueProblem(_annotated(document, name, message))


def _annotated(document: Document, annotation: str, message: str) -> Problem:
    return document.problem(["metadata", "annotations", annotation], message)
