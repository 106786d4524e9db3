"""A configuration as text in the native format, whatever format it came from. Credentials become variables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import yaml
from pydantic import BaseModel, SecretStr

from mcp_extproc.config.authorization import Selector
from mcp_extproc.config.command_words import secret_words
from mcp_extproc.config.model import GatewayConfig
from mcp_extproc.config.variables import literal_text
from mcp_extproc.config.yaml_reader import CORE_RESOLVERS
from mcp_extproc.secret_values import is_like_a_key, is_named_secret, secret_segments, secret_variables

Place = tuple[str, ...]

_SCHEME: Final = re.compile(r"(?:Bearer|Basic|Token) (?=.)", re.IGNORECASE)
_SHORTEST_VARIABLE: Final = 4
"""Characters of a variable's value that is looked for in credentials."""


@dataclass(frozen=True, slots=True)
class Written:
    """A configuration in the native format."""

    data: dict[str, Any] = field(repr=False)
    """With ``${NAME}`` for credentials, and for nothing else."""
    secrets: Mapping[str, str] = field(repr=False)
    """The credentials by the names of their variables."""

    def text(self, remarks: Sequence[str] = ()) -> str:
        """YAML, below remarks as comments."""
        return "".join(f"# {line}\n" for remark in remarks for line in remark.splitlines()) + _yaml(self.data)

    def env_file(self) -> str:
        """``NAME=value`` on each line, as shells and Docker Compose read it."""
        return "".join(f"{name}={shlex.quote(value)}\n" for name, value in self.secrets.items())


def written(config: GatewayConfig, variables: Mapping[str, str]) -> Written:
    """A configuration in the native format. Reading it with the credentials as variables gives the same one.

    Args:
        config: the configuration.
        variables: values of the variables that its file names. Where a credential has one of them, it keeps its name.
    """
    writer = _Writer(variables)
    data = writer.section(config, ())
    return Written(data, writer.secrets)


def masked(config: GatewayConfig, *, defaults: bool = False) -> str:
    """A configuration as YAML for people, without anything that may be secret.

    Args:
        config: the configuration.
        defaults: write down what it leaves to them, too.
    """
    return _yaml(_Masker(defaults=defaults).section(config, ()), _FastDumper)


def _yaml(data: dict[str, Any], dumper: type[_Dumper | _FastDumper] | None = None) -> str:
    return yaml.dump(data, Dumper=dumper or _Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Writer:
    def __init__(self, variables: Mapping[str, str]) -> None:
        self.secrets: dict[str, str] = {}
        self._variables = {name: value for name, value in variables.items() if len(value) >= _SHORTEST_VARIABLE}

    def section(self, model: BaseModel, place: Place) -> dict[str, Any]:
        """The keys that are given."""
        found = {}
        for name, info in type(model).model_fields.items():
            if not self._is_written(model, name):
                continue
            key, value = info.alias or name, getattr(model, name)
            wanted = self._value(value, (*place, key))
            if wanted != {} or value != info.get_default():
                found[key] = wanted
        return found

    def _is_written(self, model: BaseModel, name: str) -> bool:
        return name in model.model_fields_set

    def _value(self, value: Any, place: Place) -> Any:
        if isinstance(value, BaseModel):
            return self.section(value, place)
        if isinstance(value, Selector):
            text = literal_text(value.text)
            return text if value.how == "glob" else {value.how: text}
        if isinstance(value, Mapping):
            return {key: self._value(item, (*place, key)) for key, item in value.items()}
        if place[-1:] == ("command",) and value is not None:
            return self._command([word.get_secret_value() for word in value], place)
        if isinstance(value, list | tuple):
            return [self._value(item, (*place, str(index))) for index, item in enumerate(value, 1)]
        if isinstance(value, SecretStr):
            return self._secret(value.get_secret_value(), place)
        if isinstance(value, str):
            return self._url(value, place) if _is_server_url(place) else literal_text(value)
        return int(value) if isinstance(value, float) and value.is_integer() else value

    def _secret(self, value: str, place: Place) -> str:
        if place[-2:-1] in (("headers",), ("env",)) and not list(secret_variables({place[-1]: value})):
            return literal_text(value)
        scheme = _SCHEME.match(value)
        start = scheme[0] if scheme is not None else ""
        return start + self._reference(value[len(start) :], _words(place))

    def _reference(self, value: str, words: Sequence[str]) -> str:
        """The variable that stands for a credential."""
        for name, known in self._variables.items():
            if known == value:
                self.secrets[name] = value
                return f"${{{name}}}"
        wanted = re.sub(r"[^A-Z0-9]+", "_", "_".join(words).upper()).strip("_") or "SECRET"
        wanted = f"_{wanted}" if wanted[0].isdigit() else wanted
        name, number = wanted, 1
        while name in self._variables or self.secrets.get(name, value) != value:
            number += 1
            name = f"{wanted}_{number}"
        self.secrets[name] = value
        return f"${{{name}}}"

    def _url(self, url: str, place: Place) -> str:
        parts = urlsplit(url)
        secrets = set(secret_segments(parts.path))
        segments = [
            self._reference(part, (place[1], "path")) if part in secrets else literal_text(part)
            for part in parts.path.split("/")
        ]
        before = f"{literal_text(urlunsplit((parts.scheme, parts.netloc, '', '', '')))}{'/'.join(segments)}"
        if not parts.query:
            return before
        items = []
        for item in parts.query.split("&"):
            name, equals, value = item.partition("=")
            is_secret = bool(value) and list(secret_variables({unquote(name): unquote(value)}))
            reference = self._reference(value, (place[1], unquote(name))) if is_secret else literal_text(value)
            items.append(f"{literal_text(name)}{equals}{reference}")
        return f"{before}?{'&'.join(items)}"

    def _command(self, words: Sequence[str], place: Place) -> list[str]:
        secrets = sorted(set(secret_words(words)), key=len, reverse=True)
        return [self._argument(word, secrets, (*_words(place), str(index))) for index, word in enumerate(words)]

    def _argument(self, word: str, secrets: Sequence[str], words: Sequence[str]) -> str:
        for secret in secrets:
            before, found, after = word.partition(secret)
            if found:
                return f"{literal_text(before)}{self._reference(secret, words)}{literal_text(after)}"
        return literal_text(word)


_MASK: Final = "***"
_WEB_URL: Final = re.compile(r"https?://|/", re.IGNORECASE)


class _Masker(_Writer):
    """Stricter than what is written to be read again, as the values are not kept elsewhere: all values of queries are masked,
    and parts of paths unless they are words; and of what is Envoy's own there is no more than the filters' names."""

    def __init__(self, *, defaults: bool) -> None:
        super().__init__({})
        self._defaults = defaults

    def _is_written(self, model: BaseModel, name: str) -> bool:
        value = getattr(model, name)
        return super()._is_written(model, name) or (self._defaults and value is not None and value not in ((), {}))

    def section(self, model: BaseModel, place: Place) -> dict[str, Any]:
        found = super().section(model, place)
        for name, info in type(model).model_fields.items():
            key = info.alias or name
            if key in found and not info.repr:
                found[key] = _names_in(getattr(model, name))
        return found

    def _value(self, value: Any, place: Place) -> Any:
        if isinstance(value, frozenset | set):
            return sorted(map(str, value))
        if isinstance(value, str) and _WEB_URL.match(value):
            return self._url(value, place)
        return super()._value(value, place)

    def _reference(self, value: str, words: Sequence[str]) -> str:  # noqa: ARG002 - what they would be called
        return _MASK

    def _url(self, url: str, place: Place) -> str:  # noqa: ARG002 - as above
        before, mark, query = url.partition("?")
        path = "/".join(_MASK if is_like_a_key(part) else part for part in before.split("/"))
        items = [item.partition("=")[0] + (f"={_MASK}" if "=" in item else "") for item in query.split("&")]
        return path + mark + "&".join(items)


def _names_in(value: Any) -> Any:
    """What something secret is about."""
    if isinstance(value, Mapping):
        return dict.fromkeys(value, _MASK)
    return [item.get("name", _MASK) if isinstance(item, Mapping) else getattr(item, "name", _MASK) for item in value]


def _is_server_url(place: Place) -> bool:
    return len(place) == 3 and place[0] == "servers" and place[2] in ("url", "path")


def _words(place: Place) -> tuple[str, ...]:
    """Words for the name of a credential at a place."""
    if place[0] == "session":
        return ("MCP_SESSION_SECRET", *place[2:])
    if place[0] == "servers" and place[2:3] == ("env",):
        return (place[3],) if is_named_secret(place[3]) else (place[1], place[3])
    if place[:3] == ("authentication", "api_keys", "keys"):
        return ("client_key", place[3], *(number for number in place[4:] if number != "1"))
    return tuple(word for word in place[1:] if word not in ("headers", "command"))


class _Dumper(yaml.SafeDumper):
    """Quotes whatever our reader takes for something else than text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML declares it as the instance's
        first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *CORE_RESOLVERS.get(first, [])]
        for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *CORE_RESOLVERS}
    }

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        """Write everything out."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - as above
        """Indent lists below their key."""
        return super().increase_indent(flow, False)


if TYPE_CHECKING:
    _Fast = yaml.SafeDumper
else:
    _Fast = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml is not everywhere


class _FastDumper(_Fast):
    """The same for texts that nobody keeps: five times as fast, and with lists as far to the left as their key."""

    yaml_implicit_resolvers = _Dumper.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        """Write everything out."""
        return True


def _text(dumper: _Dumper | _FastDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value and _is_block(value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _is_block(value: str) -> bool:
    return all(line.isprintable() and line == line.rstrip() for line in value.split("\n"))


_Dumper.add_representer(str, _text)
_FastDumper.add_representer(str, _text)
