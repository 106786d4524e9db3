"""What a child gets: few variables of ours, then those that the operator wrote; and the program that its command names."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from mcp_extproc.bridge.peer import NotStarted
from mcp_extproc.bridge.spec import StdioServer

_MINIMAL = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "TERM",
    # how the network is reached
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
})  # fmt: skip

_FILE_BYTES = 1 << 20
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*")
_QUOTED = re.compile(r"\"((?:[^\"\\]|\\.)*)\"\s*(?:#.*)?|'([^']*)'\s*(?:#.*)?")
_COMMENT = re.compile(r"(?:^|\s+)#.*")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def problem_of(server: StdioServer) -> str | None:
    """Why no child of a server can be started, as a clause; ``None`` if one can."""
    try:
        program(server, environment(server, os.environ))
    except NotStarted as error:
        return str(error)
    return None


def environment(server: StdioServer, ours: Mapping[str, str]) -> dict[str, str]:
    """The variables of a child.

    Args:
        server: the server.
        ours: variables of this process.

    Raises:
        NotStarted: the file of variables can't be used.
    """
    return {**inherited(server, ours), **own_variables(server)}


def inherited(server: StdioServer, ours: Mapping[str, str]) -> dict[str, str]:
    """The variables of this process that a child gets."""
    return {
        name: value
        for name, value in ours.items()
        if (name in _MINIMAL or name.startswith("LC_") or name in server.inherit_env) and name not in server.env
    }


def own_variables(server: StdioServer) -> dict[str, str]:
    """The variables that are written for a server alone. They may be secrets.

    Raises:
        NotStarted: the file of variables can't be used.
    """
    written = {**(_of_file(Path(server.env_file)) if server.env_file is not None else {}), **server.env}
    return {name: value for name, value in written.items() if value is not None}


def program(server: StdioServer, variables: Mapping[str, str]) -> str:
    """The path of the program that a command names, found with the child's own ``PATH``.

    Raises:
        NotStarted: there is none, or the working directory is missing.
    """
    folder = Path(server.cwd) if server.cwd is not None else Path.cwd()
    if not folder.is_dir():
        raise NotStarted(f"its working directory (cwd) does not exist{_about_home(folder)}")
    command = server.command[0]
    named = str(folder / command) if "/" in command else command
    found = shutil.which(named, path=variables.get("PATH", ""))
    if found is not None:
        return found
    if server.arguments_apart is not None:
        raise NotStarted(f"the command is a whole command line: write {server.arguments_apart}")
    if "/" not in command:
        raise NotStarted(f"the command {command} was not found: install it, or give its full path")
    about_home = _about_home(Path(command))
    where = "" if named == command else f" in {folder}"  # who reads this has been told the command
    if not Path(named).is_file():
        raise NotStarted(f"there is no such program{where}: correct `command`{about_home}")
    raise NotStarted(
        f"it is no program that may be executed: correct `command`, or make it executable (chmod +x){about_home}"
    )


def _about_home(path: Path) -> str:
    return "; ~ stands for no folder here: write ${HOME}" if "~" in path.parts else ""


def not_executed(error: OSError) -> str:
    """Why the system did not run a program that is there, as a clause."""
    match error.errno:
        case errno.ENOENT:
            return "the program that its first line (#!) or its format asks for is not there"
        case errno.ENOEXEC:
            return "it is neither a program for this machine nor a script whose first line begins with #!"
        case errno.E2BIG:
            return "its arguments and variables are longer than the system allows"
    return error.strerror or "unknown reason"


def _of_file(path: Path) -> dict[str, str]:
    try:
        if path.exists() and not path.is_file():
            raise NotStarted("its env_file is not a file")  # to open a pipe could block
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES + 1)
        if len(content) > _FILE_BYTES:
            raise NotStarted(f"its env_file is larger than {_FILE_BYTES >> 20} MiB")
        return read_env_file(content.decode())
    except OSError as error:
        raise NotStarted(f"its env_file can't be read: {error.strerror}{_about_home(path)}") from None
    except UnicodeDecodeError:
        raise NotStarted("its env_file is not UTF-8") from None


def read_env_file(text: str) -> dict[str, str]:
    r"""The variables in a ``.env`` file: ``NAME=value`` on each line, values possibly quoted, ``#`` for comments.

    >>> read_env_file('A=1 # one\nexport B="x\\ny"\n\nC=\'$A\'')
    {'A': '1', 'B': 'x\ny', 'C': '$A'}

    Raises:
        NotStarted: a line is something else.
    """
    found = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ASSIGNMENT.fullmatch(line)
        if match is None or "\0" in line:
            raise NotStarted(f"its env_file is wrong in line {number}: expected NAME=value")
        found[match[1]] = _value(match[2])
    return found


def _value(text: str) -> str:
    quoted = _QUOTED.fullmatch(text)
    if quoted is None:
        return _COMMENT.sub("", text)
    if quoted[2] is not None:
        return quoted[2]
    return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[1]), quoted[1])
