from __future__ import annotations

import pytest

from mcp_extproc.bridge.said import KEPT_LINES, LINE_CHARACTERS, LOOKED_AT_BYTES, Allowance, Said, plain
from mcp_extproc.gateway.redaction import Redactor

NO_SECRETS = Redactor([], "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;never closed", ""),
        ("a\x07b\u202ec", "a\\u0007b\\u202ec"),
        ("\x1bcreset", "\\u001bcreset"),
    ],
)
def test_what_terminals_obey(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_lines_of_any_length_in_any_pieces() -> None:
    said = Said(NO_SECRETS)
    assert said.feed(b"one\r\ntw") == ["one"]
    assert said.feed(b"o\n\n" + b"x" * 10_000) == ["two"]
    assert said.feed(b"x" * 100_000) == []
    assert len(said._pending) <= LOOKED_AT_BYTES
    assert said.feed(b"\nafter\n") == ["x" * LINE_CHARACTERS, "after"]
    assert said.feed(b"\xff") == []
    assert said.finish() == ["\ufffd"]


def test_no_beginning_of_a_secret_is_left_where_a_line_is_cut() -> None:
    said = Said(Redactor(["hush-" * 100], ""))
    [line] = said.feed(b"x" * (LINE_CHARACTERS - 10) + b"hush-" * 100 + b" error\n")
    assert line == "x" * (LINE_CHARACTERS - 10) + "[redacted]"
    assert "hush" not in said.reason + "".join(said.last)


def test_the_last_lines_are_kept() -> None:
    said = Said(NO_SECRETS)
    said.feed(b"".join(b"%d\n" % number for number in range(100)))
    assert list(said.last) == [str(number) for number in range(100 - KEPT_LINES, 100)]


def test_the_line_that_says_why() -> None:
    said = Said(NO_SECRETS)
    assert said.reason == ""
    said.feed(b"starting\nstopping\n")
    assert said.reason == "stopping"
    said.feed(b"ModuleNotFoundError: No module named 'x'\n" + b"  at y\n" * 50 + b"Node.js v22\n")
    assert said.reason == "ModuleNotFoundError: No module named 'x'"


NPM_404 = b"""npm warn exec The following package was not found and will be installed: @x/error@1
npm error code E404
npm error 404 Not Found - GET https://registry.npmjs.org/@x%2ferror - Not found
npm error 404
npm error 404  The requested resource '@x/error@*' could not be found or you do not have permission to access it.
npm error 404
npm error 404 Note that you can also install from a
npm error 404 tarball, folder, http url, or git folder.
npm error A complete log of this run can be found in: /home/u/.npm/_logs/2026-01-01T00_00_00_000Z-debug-0.log
"""
NPM_ENOENT = b"""npm ERR! code ENOENT
npm ERR! syscall open
npm ERR! path /x/package.json
npm ERR! errno -2
npm ERR! enoent ENOENT: no such file or directory, open '/x/package.json'
npm ERR! enoent This is related to npm not being able to find a file.
npm ERR! A complete log of this run can be found in: /home/u/.npm/_logs/x.log
"""
NODE = b"""node:internal/modules/cjs/loader:1228
  throw err;
  ^

Error: Cannot find module '/x.js'
    at Function._resolveFilename (node:internal/modules/cjs/loader:1225:15) {
  code: 'MODULE_NOT_FOUND',
  requireStack: []
}

Node.js v22.1.0
"""
PYTHON = b"""Traceback (most recent call last):
  File "/x.py", line 1, in <module>
    raise Refused("no key")
Refused: no key
"""
GROUP = b"""  + Exception Group Traceback (most recent call last):
  |   File "/x.py", line 1, in <module>
  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/x.py", line 2, in f
    | ValueError: no key
    +------------------------------------
"""
UV = """  \u00d7 No solution found when resolving tool dependencies:
  \u2570\u2500\u25b6 Because nobody-has-this was not found in the package registry and you
      require nobody-has-this, we can conclude that your requirements are
      unsatisfiable.
""".encode()


UV_WITH_CAUSES = b"""error: Failed to fetch: `https://pypi.example/x/`
  Caused by: Request failed after 3 retries
  Caused by: dns error
"""
DOCKER = b"""docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?

Run 'docker run --help' for more information
"""


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (UV_WITH_CAUSES, "error: Failed to fetch: `https://pypi.example/x/`: Request failed after 3 retries: dns error"),
        (b"error: No solution\n  cause: Because x was not found\n", "error: No solution: Because x was not found"),
        (b"error: a\n" + b"  Caused by: error\n" * 9, "error: a: error: error: error"),
        (DOCKER, DOCKER.partition(b"\n")[0].decode()),
        (b"docker: invalid reference format.\nSee 'docker run --help'.\n", "docker: invalid reference format."),
        (b"Try 'x --help' for help.\n", "Try 'x --help' for help."),
        (b"error: unknown option --help\n  cause of it: none\n", "error: unknown option --help"),
        (NPM_404, "npm error code E404: 404 Not Found - GET https://registry.npmjs.org/@x%2ferror - Not found"),
        (NPM_ENOENT, "npm ERR! code ENOENT: enoent ENOENT: no such file or directory, open '/x/package.json'"),
        (b"npm error could not determine executable to run\nnpm error A complete log of this run can be found in: /x\n",
         "npm error could not determine executable to run"),
        (NODE, "Error: Cannot find module '/x.js'"),
        (b"starting\n" + PYTHON + b"bye\n", "Refused: no key"),
        (GROUP, "    | ValueError: no key"),
        (UV, ("  \u00d7 No solution found when resolving tool dependencies: "
              "Because nobody-has-this was not found in the package registry and you")),
        (b"error: one\nerror: two\n", "error: two"),
        (b"app error one of them is this\nretrying\napp error two of them is this\n", "app error two of them is this"),
        (b"sh: 1: nonsense: not found\nwarning: no error\n", "sh: 1: nonsense: not found"),
        (b"Warning: an error may follow\n", "Warning: an error may follow"),
    ],
)  # fmt: skip
def test_the_line_that_says_why_of_real_programs(said: bytes, reason: str) -> None:
    heard = Said(NO_SECRETS)
    heard.feed(said)
    assert heard.reason == reason


def test_an_allowance() -> None:
    allowance = Allowance(0)
    taken = sum(allowance.takes(0) for _ in range(1000))
    assert taken == 20
    assert allowance.taken_left_out() == 980
    assert sum(allowance.takes(1) for _ in range(1000)) == 5
