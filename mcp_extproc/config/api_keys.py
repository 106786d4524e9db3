"""Files with API keys. They are read apart from the configuration, so that keys change while nothing else does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mcp_extproc.config.bounds import FILE_BYTES
from mcp_extproc.config.client_keys import NO_KEYS, Keys, KeysByFile, key_problems
from mcp_extproc.config.config_error import ConfigError
from mcp_extproc.config.text_file import text_in
from mcp_extproc.config.yaml_text import parse_yaml

__all__ = ["NO_KEYS", "Keys", "KeysByFile", "read_api_keys"]

_SHOWN = re.compile(r"the key .* is given twice", re.DOTALL)


def read_api_keys(path: Path) -> Keys:
    """The keys in a file: a YAML or JSON object of names, each with a key or a list of keys.

    Raises:
        ConfigError: it can't be read, or can't be used. No key is repeated.
    """
    text = text_in(path, FILE_BYTES)
    if not text.strip():
        # Perhaps it is still being written.
        raise ConfigError(str(path), ["is empty: write {} where nobody has a key"])
    data = _parsed(text, path)
    if not isinstance(data, dict):
        raise ConfigError(str(path), ["expected a name and a key on each line, such as `alice: KEY`"])
    found = {name: tuple(value) if isinstance(value, list) else (value,) for name, value in data.items()}
    if problems := list(key_problems(found)):
        raise ConfigError(str(path), problems)
    return found


def _parsed(text: str, path: Path) -> Any:
    try:
        return parse_yaml(text, str(path))
    except ConfigError as error:
        problems = [_SHOWN.sub("a name is given twice", problem.message) for problem in error.problems]
    raise ConfigError(str(path), problems)
