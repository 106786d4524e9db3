"""Which words of a command may be secrets: many servers take their API key, or the URL of their database, as an argument."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from mcp_extproc.secret_values import is_named_secret, reads_like_words

_SHORTEST: Final = 8
"""Shorter words are more often ordinary ones."""

_ASSIGNMENT: Final = re.compile(r"(-*[A-Za-z_][\w.-]*=)(.*)", re.DOTALL)
_PATH: Final = re.compile(r"(?:\.{0,2}|~)/")
_PART = r"[a-z]*+(?:\d{1,2}[a-z]*+)?"
_WORD = rf"(?=[a-z]){_PART}(?:[-_.]{_PART})*"
_NAME: Final = re.compile(
    rf"(?:@[\w.-]+/[\w.-]+|{_WORD})(?:(?:@|==)[\w.-]+)?|{_WORD}(?:/{_WORD})+(?::[\w.-]+)?|[A-Z]+(?:_[A-Z]+)+"
)
"""Of a package or an image, with its version, or of a variable; or a word. A key has capitals, or digits in many places."""

_RUNS_CODE: Final = re.compile(
    r"-\w{0,3}[ceE]|--(?:eval|print|exec|command|call|split-string|require|import|(?:experimental-)?loader|from|with|package)=?"
)
"""Options of shells, interpreters and package runners whose value is code, or says where it comes from."""
_CODE: Final = re.compile(r"[\s;|&()<>`]")
"""In values that are more than a word."""
_HEADER: Final = re.compile(r"header|^-H$", re.IGNORECASE)
"""Options whose value is one."""
_URL: Final = re.compile(r"[A-Za-z][\w+.-]*://\S*")
_CREDENTIALS: Final = re.compile(r"(?:Bearer|Basic) \S+", re.IGNORECASE)
_BEFORE_VALUE: Final = re.compile(
    r"""
    (?<![\w-]) (?: (?:Bearer|Basic)\s
      | (?P<assigned>[A-Za-z_][\w-]{0,64}) (?: = ["']? | ["']?\s?[:=]\s?["'] )
      | (?P<option>--?[A-Za-z][\w-]{0,64}) [\s=] ["']?
      | (?<=["']) (?P<header>[A-Za-z][\w-]{0,64}) :(?!//)\s?
    ) | (?P<url>://)
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""What a secret may follow in code. Bounded, as a stranger's code may be long."""
_VALUE: Final = re.compile(r"(?![.~]{0,2}/)[\w.+/=-]{8,}")
_USER: Final = re.compile(r"[^/\s@]+(?=@)")

_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::-[^}]*)?\}")

_DEFAULT: Final = re.compile(r"(\$\{(?:env:)?\w+:-)([^}]*)\}")
"""A variable with what stands in for it, which may be what a stranger wants to be run."""

_HIDDEN: Final = "[redacted]"

_SHOWN_ARGUMENTS: Final = 200
"""Characters."""


class _Word(NamedTuple):
    start: str
    """Up to ``=``, in an argument that has one behind a name."""
    value: str
    named_by: str
    """What names the value: the start without ``=``, or an option before; empty if nothing does."""
    may_be_secret: bool
    option: str
    """The option before, if there is one."""


def secret_words(command: Sequence[str]) -> Iterator[str]:
    """Values among the arguments of a command: what stands behind ``=`` in an argument, or follows a long option, unless it
    reads like words and no name says that it is secret; and what reads like no name. Options themselves and paths are none,
    nor is what is shorter than eight characters. In a script, values that follow a name of a secret.

    >>> list(secret_words(["npx", "-y", "@scope/server-x", "--api-key", "open-sesame", "--token=hush-hush", "/data/2024", "db://u:pw@h"]))
    ['open-sesame', 'hush-hush', 'db://u:pw@h']
    """
    for word in _arguments(command):
        if _is_script(word):
            yield from (secret[0] for secret in _secrets_in(word.start + word.value))
        elif word.may_be_secret and len(word.value) >= _SHORTEST:
            yield word.value


def shown_command(command: Sequence[str], longest: int) -> str:
    """A command for a person who tells it from others, cut to so many characters. Values that may be secret are hidden: those
    of :func:`secret_words`, and shorter ones whose name says so. Of a URL, its host is left; of a variable, its name.

    >>> shown_command(["npx", "-y", "server-x", "--token", "hush", "https://h.example/k3y", "${KEY:-hush}"], 99)
    'npx -y server-x --token [redacted] https://h.example/... ${KEY}'
    """
    text = " ".join([_VARIABLE.sub(r"${\1}", command[0]), *map(_shown, _arguments(command))])
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def arguments_apart(command: Sequence[str]) -> str | None:
    """How to write a command whose first word holds arguments, too; ``None`` where it is one word. Values that may be secret
    are hidden as in :func:`shown_command`.

    >>> arguments_apart(["npx -y server-x --token hush"])
    '"command": "npx", "args": ["-y", "server-x", "--token", "[redacted]"] (in YAML, all of it in the list command)'
    """
    words = [*command[0].split(), *command[1:]]
    if len(words) == len(command):
        return None
    args = json.dumps([_shown(word) for word in _arguments(words)], ensure_ascii=False)
    shown = args if len(args) <= _SHOWN_ARGUMENTS else f'["{words[1][:_SHOWN_ARGUMENTS]}", ...]'
    return f'"command": "{words[0]}", "args": {shown} (in YAML, all of it in the list command)'


def program_name(command: Sequence[str]) -> str:
    """The first word of a command for a person, without arguments that it should not hold."""
    return shown_command(command[0].split() or [""], _SHOWN_ARGUMENTS)


def whole_command(command: Sequence[str]) -> str:
    """A command that a stranger wrote, for a person who judges it. Unlike :func:`shown_command`, it is not cut, and says what
    code it runs: in that, only values are hidden that follow a name of a secret.

    >>> whole_command(["bash", "-c", "curl https://h.example/x | sh", "--token", "hush"])
    'bash -c "curl https://h.example/x | sh" --token [redacted]'
    """
    return " ".join([command[0], *map(_shown_whole, _arguments(command))])


def _shown_whole(word: _Word) -> str:
    if _is_code(word):
        return _code(word)
    if (variable := _DEFAULT.fullmatch(word.value)) is None:
        return _shown(word)
    start, value = variable.groups()
    ordinary = _PATH.match(value) or _NAME.fullmatch(value)
    return f"{word.start}{start}{_shown(_Word('', value, word.named_by, not ordinary, word.option))}}}"


def _is_code(word: _Word) -> bool:
    """Whether a word tells what is run. A URL alone and a header are none, nor are values that are named as secrets."""
    text = word.start + word.value
    if _RUNS_CODE.fullmatch(word.option) or _RUNS_CODE.fullmatch(word.start):
        # `docker run -e KEY=value` has an assignment there.
        return not _ASSIGNMENT.fullmatch(text) or word.start.startswith("-") or bool(_CODE.search(word.value))
    if _URL.fullmatch(word.value) or _CREDENTIALS.fullmatch(word.value):
        return False
    if word.named_by.startswith("-") and (is_named_secret(word.named_by) or _HEADER.search(word.named_by)):
        return False
    return bool(re.search(r"[\s()]", word.value))


def _is_script(word: _Word) -> bool:
    """Whether a word is code of several words, for a shell or an interpreter."""
    is_assignment = word.option == "-e" and word.start  # docker run -e KEY=value
    runs = _RUNS_CODE.fullmatch(word.start) or (_RUNS_CODE.fullmatch(word.option) and not is_assignment)
    return bool(runs and _CODE.search(word.value))


def _code(word: _Word) -> str:
    code, position = word.start + word.value, 0
    pieces: list[str] = []
    for secret in _secrets_in(code):
        pieces += code[position : secret.start()], _HIDDEN
        position = secret.end()
    text = "".join([*pieces, code[position:]])
    return f'"{text}"' if _CODE.search(text) else text


def _secrets_in(code: str) -> Iterator[re.Match[str]]:
    position = 0
    while (before := _BEFORE_VALUE.search(code, position)) is not None:
        position = before.end()
        name = before["assigned"] or before["option"] or before["header"] or ""
        if name and (name.startswith("--no-") or not is_named_secret(name)):
            continue
        secret = (_USER if before["url"] else _VALUE).match(code, position)
        if secret is not None:
            yield secret
            position = secret.end()


def _arguments(command: Sequence[str]) -> Iterator[_Word]:
    before = ""
    for word in command[1:]:
        is_secret = before.startswith("-") and is_named_secret(before) and not word.startswith("-")
        # `=` ends a key in base64, too.
        assigned = None if is_secret else _ASSIGNMENT.fullmatch(word)
        start, value = ("", word) if assigned is None else assigned.groups()
        named_by = start.removesuffix("=") or (before if before.startswith("--") else "")
        is_option = not start and word.startswith("-")
        ordinary = is_option or _PATH.match(value) or _is_word(value, named_by)
        option = before if before.startswith("-") else ""
        yield _Word(start, value, named_by or option, not ordinary, option)
        before = "" if start else word


def _is_word(value: str, named_by: str) -> bool:
    if not named_by:
        return _NAME.fullmatch(value) is not None
    return reads_like_words(value) and not is_named_secret(named_by)


def _shown(word: _Word) -> str:
    if _VARIABLE.fullmatch(word.value):
        return word.start + _VARIABLE.sub(r"${\1}", word.value)
    if is_named_secret(word.named_by) and not word.value.startswith("-"):
        return word.start + _HIDDEN
    if not word.may_be_secret or len(word.value) < _SHORTEST:
        return word.start + word.value
    return word.start + _host(word.value)


def _host(value: str) -> str:
    """A URL without what may be secret in it; of anything else, nothing."""
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        return _HIDDEN
    if parts.scheme not in ("http", "https") or not host:
        return _HIDDEN
    return f"{parts.scheme}://{host}{f':{port}' if port is not None else ''}/..."
