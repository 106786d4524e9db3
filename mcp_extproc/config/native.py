"""The native format: data whose keys are the fields of :class:`GatewayConfig`, normally from YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from mcp_extproc.config.config_error import ConfigError, PlacedError, Problem, field
from mcp_extproc.config.model import GatewayConfig
from mcp_extproc.config.otel_variables import filled_in
from mcp_extproc.config.problems import empty_sections, problems_of
from mcp_extproc.config.variables import substitute


def with_variables(config: GatewayConfig, environ: Mapping[str, str]) -> GatewayConfig:
    """With what OpenTelemetry's variables turn on.

    Raises:
        ValueError: one of them can't be used.
    """
    telemetry = filled_in(config.telemetry, environ)
    return config if telemetry is config.telemetry else config.model_copy(update={"telemetry": telemetry})


def read_native(data: Any, name: str, environ: Mapping[str, str]) -> GatewayConfig:
    """The configuration in parsed native data.

    Raises:
        ConfigError: lists every unset variable and empty section or, if there are none, every invalid field.
    """
    problems: list[Problem] = []
    replaced = substitute(data, environ, problems)
    problems += empty_sections(replaced, GatewayConfig)
    if not problems:
        try:
            return with_variables(GatewayConfig.model_validate(replaced), environ)
        except ValidationError as error:
            problems = problems_of(error, GatewayConfig)
        except PlacedError as error:
            problems = [Problem(error.message, field(error.path))]
        except ValueError as error:
            problems = [Problem(str(error))]
    # Outside the except block: pydantic's error contains values and must not be chained.
    raise ConfigError(name, problems)
