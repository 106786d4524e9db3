"""Files with one credential, such as mounted secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import SecretStr

from mcp_extproc.config.bounds import FILE_BYTES
from mcp_extproc.config.config_error import ConfigError
from mcp_extproc.config.text_file import text_in
from mcp_extproc.config.values import header_value

MAX_CHARS: Final = 16 * 1024
"""Of a credential. Servers take few larger headers, and Envoy 60 KiB of them in all."""


def read_secret(path: Path) -> str:
    """The credential in a file, without line breaks at its end.

    Raises:
        ConfigError: there is none, or it can't be sent. Nothing of it is repeated.
    """
    text = text_in(path, FILE_BYTES).rstrip("\r\n")
    if not text:
        # Perhaps it is still being written.
        raise ConfigError(str(path), ["is empty: write the credential into it"])
    if len(text) > MAX_CHARS:
        raise ConfigError(str(path), [f"has more than {MAX_CHARS} characters: is it a credential?"])
    problem = None
    try:
        header_value(SecretStr(text))
    except ValueError as error:
        problem = str(error)
    # Outside the except block, so that nothing is chained.
    if problem is not None:
        raise ConfigError(str(path), [problem])
    return text
