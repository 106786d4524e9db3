"""Reads a configuration from a file or its text. The format is detected from the content."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from mcp_extproc.config.bounds import FILE_BYTES
from mcp_extproc.config.client_secrets import client_secrets, secret_files, with_client_secrets
from mcp_extproc.config.config_error import ConfigError, Problem, line_of
from mcp_extproc.config.dialects import PLAIN, Dialect, dialect_of_file, plain_entry
from mcp_extproc.config.hints import hints
from mcp_extproc.config.json_text import key_lines, parse_json
from mcp_extproc.config.mcp_servers import McpServers, meant_so, read_mcp_servers, table_of
from mcp_extproc.config.model import GatewayConfig
from mcp_extproc.config.native import read_native
from mcp_extproc.config.otel_variables import passed_over
from mcp_extproc.config.text_file import text_from, too_large
from mcp_extproc.config.variables import literal
from mcp_extproc.config.yaml_text import parse_documents, parse_yaml

NOTHING_RESOLVED: Final[Mapping[str, str]] = {}

_KUBERNETES = re.compile(r"""^(?:["']?apiVersion["']?[ \t]*:|[ \t]*\{?\s*"apiVersion"[ \t]*:)""", re.MULTILINE)
"""In the text of a file with Kubernetes documents. No other format has this key at its top."""

Part = Callable[[dict[str, Any]], dict[str, Any]]
"""What is read of the data of a file, in either format."""


def whole(data: dict[str, Any]) -> dict[str, Any]:
    """All of a file."""
    return data


def _as_it_is(problem: Problem) -> Problem:
    return problem


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration, with its source."""

    config: GatewayConfig
    warnings: tuple[str, ...]
    """One sentence for each key of the file that has no effect, each server that is left out, and each thing that is decided
    without being written."""
    source: Literal["native", "mcp-servers", "kubernetes"]
    """The format of the file."""
    name: str
    """The file's name in error messages."""
    text: str = field(repr=False)
    """Content of the file, in an agent's file its servers in the way of mcp-servers.json, of Kubernetes documents what they
    say in the native format. It may contain secrets."""
    sse: frozenset[str] = frozenset()
    """Servers that were found to speak HTTP+SSE. The text does not say so."""
    status: str | None = None
    """Address of a status page of which the text does not say anything."""
    part: Part = whole
    """What was read of the text."""
    files: tuple[Path, ...] = ()
    """Other files that were read, with which the configuration changes."""
    as_written: Callable[[Problem], Problem] = field(default=_as_it_is, repr=False, compare=False)
    """A problem of the configuration that is found later, with the place where it was written."""

    def is_same(self, other: Loaded) -> bool:
        """Whether the source says the same, in its text and in files of which it has secrets."""
        return self.text == other.text and client_secrets(self.config) == client_secrets(other.config)

    def require_servers(self) -> None:
        """Check that there is an endpoint to serve.

        Raises:
            ConfigError: there are no servers, only pass-through for an existing Envoy.
        """
        if not self.config.servers:
            raise ConfigError(self.name, [_NO_SERVERS])

    def with_port(self, port: int | None) -> Loaded:
        """A copy with another port for clients, if one is given. :attr:`text` stays as it is."""
        if port is None:
            return self
        return self._listening(port=port)

    def with_unread_timeout(self, seconds: float) -> Loaded:
        """A copy with another ``listen.limits.unread_timeout``. :attr:`text` stays as it is."""
        limits = self.config.listen.limits.model_copy(update={"unread_timeout": seconds})
        return self._listening(limits=limits)

    def with_log(self, level: Literal["warning", "error"], format: Literal["text", "json"]) -> Loaded:
        """A copy whose log has this level and format where the file has none. :attr:`text` stays as it is."""
        own = self.config.log
        written = own.model_copy(update={"level": own.level or level, "format": own.format or format})
        return replace(self, config=self.config.model_copy(update={"log": written}))

    def with_status(self, address: str | None) -> Loaded:
        """A copy with a status page at an address, unless the file says where, or that there is none. :attr:`text` stays as
        it is."""
        status = self.config.status
        if address is None or status.address is not None:
            return self
        status = status.model_copy(update={"address": address})
        return replace(self, config=self.config.model_copy(update={"status": status}), status=address)

    def _listening(self, **changes: object) -> Loaded:
        listen = self.config.listen.model_copy(update=changes)
        return replace(self, config=self.config.model_copy(update={"listen": listen}))

    def with_sse(self, names: Collection[str]) -> Loaded:
        """A copy in which these of the servers with ``transport: auto`` have ``sse``. :attr:`text` stays as it is."""
        return replace(self, config=self.config.with_sse(names), sse=self.sse.union(names)) if names else self


def load(
    path: Path,
    environ: Mapping[str, str],
    *,
    strict: bool = False,
    part: Part = whole,
    resolve: Mapping[str, str] = NOTHING_RESOLVED,
) -> Loaded:
    """Read a configuration file: native YAML (or JSON), Kubernetes documents, or mcp-servers.json, also as an agent writes it.

    Args:
        path: the file.
        environ: where ``${VAR}`` is looked up, normally `os.environ`.
        strict: refuse a file with a server that can't be served.
        part: what is read of it. What is not need not be valid, and its variables need not be set.
        resolve: ``host:port`` of Services in Kubernetes documents, by ``name.namespace``.

    Raises:
        ConfigError: the file can't be read or is invalid.
    """
    dialect = dialect_of_file(path, environ)
    text, folder = text_from(path, FILE_BYTES), path.absolute().parent
    return loads(text, str(path), environ, strict=strict, dialect=dialect, part=part, resolve=resolve, folder=folder)


def loads(
    text: str,
    name: str,
    environ: Mapping[str, str],
    *,
    strict: bool = False,
    dialect: Dialect = PLAIN,
    part: Part = whole,
    resolve: Mapping[str, str] = NOTHING_RESOLVED,
    folder: Path | None = None,
) -> Loaded:
    """Read a configuration from text.

    Args:
        text: the content.
        name: the name in error messages. If it ends in ``.json`` or ``.jsonc``, the text has to be JSON.
        environ: where ``${VAR}`` is looked up, normally `os.environ`.
        strict: refuse a text with a server that can't be served.
        dialect: how entries of mcp-servers.json are written.
        part: what is read of it.
        resolve: ``host:port`` of Services in Kubernetes documents, by ``name.namespace``.
        folder: where relative paths in ``include`` start; ``None`` for a text that is in no file.

    Raises:
        ConfigError: the text is invalid.
    """
    if len(text.encode("utf-8", "surrogatepass")) > FILE_BYTES:
        raise ConfigError(name, [_TOO_LARGE])
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise ConfigError(name, [_EMPTY])
    read = _read(text, name, environ, strict=strict, dialect=dialect, part=part, resolve=resolve, folder=folder)
    return replace(read, warnings=(*read.warnings, *passed_over(environ)))


def _read(
    text: str,
    name: str,
    environ: Mapping[str, str],
    *,
    strict: bool,
    dialect: Dialect,
    part: Part,
    resolve: Mapping[str, str],
    folder: Path | None,
) -> Loaded:
    if _KUBERNETES.search(text):
        return _of_documents(text, name, environ, part, resolve)
    data, is_json = _parse(text, name)
    if data is None:
        raise ConfigError(name, [_EMPTY])
    if not isinstance(data, dict):
        raise ConfigError(name, ["expected a mapping with a key servers (native) or mcpServers at the top"])
    if "include" in data and folder is not None and table_of(data, is_json=is_json) is None:
        lines = functools.cache(functools.partial(_lines, text, is_json=is_json))
        return _with_files(data, lines, name, environ, part, folder)
    data = part(data)
    table = table_of(data, is_json=is_json)
    if table is None:
        if (problem := meant_so(data)) is not None:
            raise ConfigError(name, [problem])
        return _native(data, text, name, environ, part, is_json=is_json)
    written = text if is_json else ""
    if dialect is not PLAIN and isinstance(data[table], dict):
        data = {**data, table: {key: plain_entry(entry, dialect, environ) for key, entry in data[table].items()}}
        text = json.dumps(data)
    read = _servers_of(data, table, name, environ, written, strict=strict)
    warnings = _with_lines(read.warnings, _lines(written)) if read.warnings else ()
    return Loaded(read.config, warnings, "mcp-servers", name, text, part=part)


def _servers_of(
    data: Mapping[str, Any], table: str, name: str, environ: Mapping[str, str], written: str, *, strict: bool
) -> McpServers:
    """What entries of mcp-servers.json say; errors with lines of the text as it was written."""
    try:
        read = read_mcp_servers(data, table, name, environ)
        problems = read.left_out if strict else ()
    except ConfigError as error:
        read, problems = None, error.problems
    # Outside the except block, so that nothing is chained.
    if read is None or problems:
        lines = _lines(written)
        raise ConfigError(name, [replace(one, line=line_of(one.path, lines)) for one in problems])
    return read


def _of_documents(text: str, name: str, environ: Mapping[str, str], part: Part, resolve: Mapping[str, str]) -> Loaded:
    # Few files have any, and all workers would import how to read them.
    from mcp_extproc.config.kubernetes.translate import read_documents

    read = read_documents(text, name, environ, resolve)
    data = part(literal(read.data))
    config = read.config if part is whole else read_native(data, name, {})
    text = json.dumps(data)
    if len(text) > FILE_BYTES:
        raise ConfigError(name, [_TOO_LARGE])
    return Loaded(config, read.warnings, "kubernetes", name, text, files=read.files, as_written=read.as_written)


def _with_files(
    data: dict[str, Any],
    lines: Callable[[], Mapping[str, int]],
    name: str,
    environ: Mapping[str, str],
    part: Part,
    folder: Path,
) -> Loaded:
    # Few files have any.
    from mcp_extproc.config.include import Included

    included, config = Included(environ, folder, lines), None
    problems: Sequence[Problem] = ()
    files: Sequence[Path] = ()
    text = json.dumps(part(included.merge(data)))
    if len(text) > FILE_BYTES:
        included.problems.append(Problem(f"with the files that it includes, it {_TOO_LARGE}"))
    try:
        config = None if included.problems else with_client_secrets(read_native(json.loads(text), name, environ), name)
    except ConfigError as error:
        problems, files = error.problems, error.files
    # Outside the except block, so that nothing is chained.
    if config is None:
        found = [*included.problems, *map(included.as_written, problems)]
        raise ConfigError(name, found, (*included.watched, *files))
    warnings = (*included.warnings, *hints(config))
    files = (*included.watched, *secret_files(config))
    return Loaded(config, warnings, "native", name, text, files=files, as_written=included.as_written)


def _native(data: Any, text: str, name: str, environ: Mapping[str, str], part: Part, *, is_json: bool) -> Loaded:
    problems: Sequence[Problem] = ()
    files: Sequence[Path] = ()
    try:
        config = with_client_secrets(read_native(data, name, environ), name)
    except ConfigError as error:
        problems, files = error.problems, error.files
    # Outside the except block, so that nothing is chained.
    lines = functools.cache(functools.partial(_lines, text, is_json=is_json))

    def as_written(problem: Problem) -> Problem:
        return replace(problem, line=line_of(problem.path, lines()))

    if problems:
        raise ConfigError(name, [*map(as_written, problems)], files)
    warnings = list(hints(config))
    placed = _with_lines(warnings, lines()) if warnings else ()
    watched = secret_files(config)
    return Loaded(config, placed, "native", name, text, part=part, files=watched, as_written=as_written)


def _lines(text: str, *, is_json: bool = True) -> Mapping[str, int]:
    """By path. Empty where all is on one line, as what programs have written."""
    if "\n" not in text.strip():
        return {}
    return key_lines(text) if is_json else parse_documents(text, "")[0].lines


def _with_lines(warnings: Sequence[str], lines: Mapping[str, int]) -> tuple[str, ...]:
    """Warnings that begin with a path, behind its line."""
    found = [(line_of(warning, lines), warning) for warning in warnings]
    return tuple(warning if line is None else f"line {line}, {warning}" for line, warning in found)


_NO_SERVERS = (
    "servers: there are none, only pass_through, which needs an existing Envoy: start the workers with"
    " `mcp-extproc serve`, and select routes with `mcp-extproc envoy attach --pass-through`"
)
_EMPTY = "is empty: add at least one server under servers (native) or mcpServers"
_TOO_LARGE = too_large(FILE_BYTES)


def _parse(text: str, name: str) -> tuple[Any, bool]:
    """The data, and whether the text is JSON."""
    if name.lower().endswith((".json", ".jsonc")):
        return parse_json(text, name), True
    if text.lstrip().startswith(("{", "//", "/*")):
        try:
            return parse_json(text, name), True
        except ConfigError:
            # YAML may begin with a brace, too. A quoted mcpServers means that JSON was intended.
            if '"mcpServers"' in text:
                raise
    return parse_yaml(text, name), False
