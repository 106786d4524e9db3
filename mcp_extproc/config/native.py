"""The native format: data whose keys are the fields of :class:`GatewayConfig`, normally from YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from mcp_extproc.config.config_error import ConfigError
from mcp_extproc.config.model import GatewayConfig
from mcp_extproc.config.problems import problems_of
from mcp_extproc.config.variables import substitute


def read_native(data: Any, name: str, environ: Mapping[str, str]) -> GatewayConfig:
    """The configuration in parsed native data.

    Raises:
        ConfigError: with every unset variable, or else every field that is wrong.
    """
    problems: list[str] = []
    replaced = substitute(data, environ, problems)
    if not problems:
        try:
            return GatewayConfig.model_validate(replaced)
        except ValidationError as error:
            problems = problems_of(error, GatewayConfig)
    # Outside of the except block, so that pydantic's error, which holds the values, is not chained.
    raise ConfigError(name, problems)
