"""From documents to the one configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mcp_extproc.config.config_error import ConfigError, Problem, quoted
from mcp_extproc.config.hints import about_credentials, about_hosts
from mcp_extproc.config.kubernetes import registrations, routes
from mcp_extproc.config.kubernetes.backends import warn_of_policies
from mcp_extproc.config.kubernetes.documents import Documents
from mcp_extproc.config.kubernetes.reading import Reading
from mcp_extproc.config.kubernetes.values import Values
from mcp_extproc.config.model import GatewayConfig
from mcp_extproc.config.problems import problems_of
from mcp_extproc.config.yaml_text import parse_documents


@dataclass(frozen=True, slots=True)
class Translated:
    """What a file's documents say."""

    data: dict[str, Any] = field(repr=False)
    """In the native format, without variables."""
    config: GatewayConfig
    warnings: tuple[str, ...]
    files: tuple[Path, ...]
    """Other files that were read."""
    as_written: Callable[[Problem], Problem] = field(repr=False)
    """A problem of the configuration, at the field that it comes from."""


def read_documents(text: str, name: str, environ: Mapping[str, str], resolve: Mapping[str, str]) -> Translated:
    """The configuration in a file with Kubernetes documents.

    Args:
        text: of the file.
        name: its name, for errors.
        environ: where ``${VAR}`` is looked up, and what annotations of Secrets name.
        resolve: ``host:port`` of Services, by ``name.namespace``.

    Raises:
        ConfigError: lists what is wrong, each with its document and line.
    """
    documents = Documents(parse_documents(text, name), environ)
    reading = Reading(documents, Values(environ), resolve)
    data = _native(reading)
    warn_of_policies(reading)
    reading.unnamed("Backend", "Gateway", "Service", "Secret", "ConfigMap")
    problems = documents.problems + reading.problems
    if not problems:
        try:
            config = GatewayConfig.model_validate(data)
        except ValidationError as error:
            problems = [reading.as_written(problem) for problem in problems_of(error, GatewayConfig)]
    if problems:
        # Outside the except block: pydantic's error contains values and must not be chained.
        in_order: list[Problem] = sorted(problems, key=_line)
        raise ConfigError(name, in_order, reading.values.files)
    warnings = (*documents.warnings, *reading.warnings, *_hints(reading, config))
    return Translated(data, config, warnings, tuple(reading.values.files), reading.as_written)


def _hints(reading: Reading, config: GatewayConfig) -> Iterator[str]:
    for sentence in (*about_credentials(config), *about_hosts(config)):
        path, _, message = sentence.partition(": ")
        yield str(reading.as_written(Problem(message, path)))


def _line(problem: Problem) -> int:
    return problem.line or 0


def _native(reading: Reading) -> dict[str, Any]:
    route, registration = (
        next(reading.documents.of_kind(kind), None) for kind in ("MCPRoute", "MCPServerRegistration")
    )
    if route is not None and registration is not None:
        reading.refuse(registration, [], f"can't be read together with {route}: give each a file of its own")
    elif registration is not None:
        return registrations.native(reading)
    elif route is not None:
        reading.unused("HTTPRoute", "MCPVirtualServer", "MCPGatewayExtension", because="the file has an MCPRoute")
        return routes.native(reading)
    elif not reading.documents.problems:
        found = dict.fromkeys([*reading.documents.kinds(), *reading.documents.unread])
        only = f", but {', '.join(map(quoted, found))}" if found else ""
        reading.problems.append(Problem(f"there is no MCPRoute, and no MCPServerRegistration{only}: add one"))
    return {}
