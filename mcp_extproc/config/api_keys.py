"""Files with API keys. They are read apart from the configuration, so that keys change while nothing else does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from mcp_extproc.config.bounds import FILE_BYTES
from mcp_extproc.config.config_error import ConfigError
from mcp_extproc.config.text_file import text_in
from mcp_extproc.config.yaml_text import parse_yaml

Keys = Mapping[str, tuple[str, ...]]
"""The keys of each name."""

KeysByFile = Mapping[str, Keys]
"""By the file's path, as it is written in the configuration."""

NO_KEYS: Final[KeysByFile] = {}

_NAME = re.compile(r"[!-~]([ -~]{0,254}[!-~])?")
_KEY = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")
"""What can stand in a header, a query and a cookie alike (RFC 9110 section 11.2, token68)."""

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
    found: dict[str, tuple[str, ...]] = {}
    seen: dict[str, int] = {}
    problems = []
    for number, (name, value) in enumerate(data.items(), 1):
        keys = tuple(value) if isinstance(value, list) else (value,)
        # Neither is shown: whoever has exchanged the two would find a key in the log.
        problems += [f"entry {number}: {problem}" for problem in _problems(name, keys, seen)]
        seen |= {key: number for key in keys if isinstance(key, str)}
        found[name] = keys
    if problems:
        raise ConfigError(str(path), problems)
    return found


def _parsed(text: str, path: Path) -> Any:
    try:
        return parse_yaml(text, str(path))
    except ConfigError as error:
        problems = [_SHOWN.sub("a name is given twice", problem.message) for problem in error.problems]
    raise ConfigError(str(path), problems)


def _problems(name: str, keys: tuple[Any, ...], seen: Mapping[str, int]) -> Iterator[str]:
    if not _NAME.fullmatch(name):
        yield "expected a name of up to 256 visible ASCII characters"
    elif not keys:
        yield "there is no key: leave the name out"
    elif not all(isinstance(key, str) and _KEY.fullmatch(key) for key in keys):
        yield "expected a key of 16 to 512 letters, digits and characters of ._~+/=-, in quotes if it is a number"
    elif len(set(keys)) != len(keys):
        yield "a key is listed twice"
    elif shared := [seen[key] for key in keys if key in seen]:
        yield f"entry {shared[0]} has the same key, so that it is not clear who calls"
