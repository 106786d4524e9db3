"""``convert``: a file of any format in the native one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcp_extproc.cli.common import standard_output, warn
from mcp_extproc.cli.options import FILE, RESOLVE, STRICT

if TYPE_CHECKING:
    from mcp_extproc.config import GatewayConfig
    from mcp_extproc.config.writing import Written


@click.command()
@FILE
@STRICT
@RESOLVE
@click.option(
    "--env-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the credentials here, NAME=value on each line, for nobody else to read. There must be no such file yet.",
)
@click.option(
    "--to",
    type=click.Choice(["native", "envoy-native"]),
    default="native",
    help="envoy-native: for Envoy alone, with its own mcp and mcp_router filters. Default: native.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object: configuration, variables and losses.")
def convert(
    file: Path, strict: bool, resolve: Mapping[str, str], env_file: Path | None, to: str, as_json: bool
) -> None:
    """Print FILE, of any format, in the native format. Credentials become ${NAME}.

    What is lost is named in comments, and on standard error. Exit code 2: FILE is invalid, or needs this gateway.
    """
    from mcp_extproc.config import load
    from mcp_extproc.config.named_variables import named_variables
    from mcp_extproc.config.writing import written

    loaded = load(file, os.environ, strict=strict, resolve=resolve)
    named = named_variables(file, os.environ)
    result = written(loaded.config, named)
    staying = [*_said_again(loaded.config)]
    losses = [warning for warning in loaded.warnings if not warning.endswith(tuple(staying))]
    if fixed := [name for name in named if name not in result.secrets]:
        losses.append(f"variables that are no credentials are written as what they are: {', '.join(fixed)}")
    if loaded.config.envoy.model_fields_set & {"http_filters", "http_filters_before", "clusters"}:
        warn("envoy: filters and clusters are copied as they are: look for credentials in them")
    if to == "envoy-native":
        result, losses = _for_envoy_alone(loaded.config, result, losses)
    if env_file is not None:
        _write(env_file, result.env_file())
    for warning in dict.fromkeys([*loaded.warnings, *losses]):
        warn(warning)
    if result.secrets and env_file is None:
        warn(f"set the variables {', '.join(result.secrets)}, or have --env-file write them")
    with standard_output():
        if as_json:
            told = {"configuration": result.data, "variables": list(result.secrets), "losses": losses}
            click.echo(json.dumps(told))
        else:
            click.echo(
                result.text([f"From {file.name}, by mcp-extproc convert.", *(f"Lost: {loss}" for loss in losses)]),
                nl=False,
            )


def _said_again(config: GatewayConfig) -> Iterator[str]:
    """Ends of warnings about what is kept: whoever reads the output gets them, too."""
    from mcp_extproc.config.hints import hints

    for sentence in hints(config):
        path, _, message = sentence.partition(": ")
        # In other formats the field has another path.
        yield message if message and path.startswith("servers") else sentence


def _for_envoy_alone(config: GatewayConfig, result: Written, losses: Sequence[str]) -> tuple[Written, list[str]]:
    from mcp_extproc.envoy.own_filters import NotForEnvoyAlone, own_filters

    try:
        found = own_filters(config, result)
    except NotForEnvoyAlone as error:
        reasons = "\n  ".join(error.reasons)
        raise click.UsageError(f"--to envoy-native: Envoy's own filters are not enough:\n  {reasons}") from None
    used = str(found.bootstrap)
    secrets = {name: value for name, value in result.secrets.items() if f"%ENVIRONMENT({name})%" in used}
    return replace(result, data=found.bootstrap, secrets=secrets), [*losses, *found.losses]


def _write(path: Path, text: str) -> None:
    """Write a new file that only its owner can read.

    Raises:
        UsageError: there is one of the name.
    """
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise click.UsageError(f"--env-file: {path} is there already: name another one") from None
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(text)
