"""Files that a configuration names: certificates and keys, which Envoy or the supervisor reads, and programs."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from mcp_extproc.config.api_keys import read_api_keys
from mcp_extproc.config.authentication import Authentication
from mcp_extproc.config.config_error import ConfigError, Problem, field
from mcp_extproc.config.jwks import MAX_BYTES, usable_keys
from mcp_extproc.config.model import GatewayConfig
from mcp_extproc.config.text_file import NOT_REGULAR

_OF_LISTEN = ("certificate", "key", "client_ca")
_OF_SERVER = ("ca", "client_certificate", "client_key")

_WHERE = "a relative path starts in the directory that the gateway is started in"


def named_files(config: GatewayConfig) -> Iterator[tuple[str, Path]]:
    """Each file, with the path of the field that names it."""
    yield from _named(config.listen.tls, _OF_LISTEN, "listen", "tls")
    for index, one in enumerate(config.listen.tls.more if config.listen.tls is not None else ()):
        yield from _named(one, _OF_LISTEN, "listen", "tls", "more", index)
    for place, authentication in config.authentications():
        yield from ((field([*place, *within]), path) for within, path in _named_by(authentication))
    for name, server in config.servers.items():
        yield from _named(server.tls, _OF_SERVER, "servers", name, "tls")
        own = server.credentials.own
        if own is not None and own.file is not None:
            yield field(["servers", name, "credentials", own.kind, "file"]), Path(own.file)
        for key, client in server.credentials.clients.items():
            for named, path in (("client_secret_file", client.client_secret_file), ("ca", client.ca)):
                if path is not None:
                    yield field(["servers", name, "credentials", key, named]), Path(path)


def _named_by(authentication: Authentication) -> Iterator[tuple[tuple[str | int, ...], Path]]:
    for index, one in enumerate(authentication.oauth.issuers if authentication.oauth is not None else ()):
        if one.jwks is not None and one.jwks.file is not None:
            yield ("oauth", "issuers", index, "jwks", "file"), Path(one.jwks.file)
    if authentication.mtls is not None:
        yield ("mtls", "ca"), Path(authentication.mtls.ca)
    if authentication.external is not None and authentication.external.ca is not None:
        yield ("external", "ca"), Path(authentication.external.ca)
    if authentication.api_keys is not None and authentication.api_keys.file is not None:
        yield ("api_keys", "file"), Path(authentication.api_keys.file)


def missing_files(config: GatewayConfig) -> list[Problem]:
    """A problem for each file that a process of this user on this machine can't read. None is opened."""
    found = ((place, _problem_of(path)) for place, path in named_files(config))
    return [Problem(problem, place) for place, problem in found if problem is not None]


def unusable_files(config: GatewayConfig) -> list[Problem]:
    """A problem for each file with API keys or a key set that is there and has none that can be used. Nothing of it is
    repeated."""
    found = []
    for place, section in config.authentications():
        for within, path in _named_by(section):
            if (reads := _READERS.get(str(within[-2]))) is not None and _problem_of(path) is None and path.is_file():
                try:
                    reads(path, section)
                except ConfigError as error:
                    found += [Problem(one.message, field([*place, *within])) for one in error.problems]
    return found


def _read_api_keys(path: Path, _: Authentication) -> None:
    read_api_keys(path)


def _read_key_set(path: Path, section: Authentication) -> None:
    assert section.oauth is not None
    try:
        with path.open("rb") as file:
            usable_keys(file.read(MAX_BYTES + 1), section.oauth.algorithms)
    except OSError as error:
        raise ConfigError(str(path), [f"can't be read: {error.strerror}"]) from None
    except ValueError as error:
        raise ConfigError(str(path), [str(error)]) from None


_READERS: Final = {"api_keys": _read_api_keys, "jwks": _read_key_set}
"""By the section that names the file. What Envoy reads, it says itself."""


def unknown_command_lines(config: GatewayConfig) -> dict[str, str]:
    """What to do about servers whose command is a whole command line, and no program of that name, by server."""
    commands = {
        name: [word.get_secret_value() for word in server.command]
        for name, server in config.servers.items()
        if server.command is not None
    }
    if not commands:
        return {}
    from mcp_extproc.config.command_words import arguments_apart  # compiles much, for which other servers have no use

    found = {name: arguments_apart(command) for name, command in commands.items()}
    return {
        name: f"is a whole command line: write {apart}"
        for name, apart in found.items()
        if apart is not None and shutil.which(commands[name][0]) is None
    }


def _named(section: BaseModel | None, names: tuple[str, ...], *at: str | int) -> Iterator[tuple[str, Path]]:
    for name in names:
        path = getattr(section, name, None)
        if path is not None:
            yield field([*at, name]), Path(path)


def _problem_of(path: Path) -> str | None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return f"there is no such file: correct the path ({_WHERE}), or put the file there"
    except OSError as error:
        return f"the file can't be read: {error.strerror}"
    if stat.S_ISDIR(mode):
        return "is a directory: name the file in it"
    if not stat.S_ISREG(mode):
        return NOT_REGULAR
    return None if os.access(path, os.R_OK) else "the file can't be read: Permission denied"
