"""The variables that a file of any format names, with what they have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from mcp_extproc.config.bounds import FILE_BYTES
from mcp_extproc.config.text_file import text_in
from mcp_extproc.config.variables import names_in

_ANNOTATED = re.compile(r"substitution\.aigw\.run/env/[^:\s]+:\s*[\"']?([A-Za-z_][A-Za-z0-9_]*)")


def named_variables(path: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Those in a file's text that are set, comments included. Whoever has a variable with a credential keeps its name.

    Args:
        path: the file.
        environ: where they are looked up.
    """
    text = text_in(path, FILE_BYTES)
    names = dict.fromkeys([*names_in(text), *_ANNOTATED.findall(text)])
    return {name: environ[name] for name in names if name in environ}
