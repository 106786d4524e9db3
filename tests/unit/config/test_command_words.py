from __future__ import annotations

import pytest

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.command_words import secret_words, shown_command, whole_command


@pytest.mark.parametrize(
    ("arguments", "secrets"),
    [
        (["--api-key", "open-sesame", "--verbose-output"], ["open-sesame"]),
        (["--api-key=open-sesame", "next-word"], ["open-sesame"]),
        (["--name", "filesystem", "--transport=streamable-http", "-e", "MODE=production"], []),
        (
            ["--name", "filesystem1", "--pass-phrase", "filesystem", "--pin-code=abcdefgh"],
            ["filesystem1", "filesystem", "abcdefgh"],
        ),
        (["-e", "API_TOKEN=open-sesame"], ["open-sesame"]),
        (["sk-ABCDEFGH1234"], ["sk-ABCDEFGH1234"]),
        (["postgresql://me:hush@db/x"], ["postgresql://me:hush@db/x"]),
        (["ab12cd34", "deadbeef1234", "7f-abcdefgh"], ["ab12cd34", "deadbeef1234", "7f-abcdefgh"]),
        # What people have to read in errors.
        (["run", "-e", "GITHUB_TOKEN_NAME", "ghcr.io/github/github-mcp-server:v1", "mcp/postgres"], []),
        (["AKIAIOSFODNNEXAMPLE", "admin:hush-hush"], ["AKIAIOSFODNNEXAMPLE", "admin:hush-hush"]),
        (["@upstash/context7-mcp@latest", "context7-mcp", "n8n-mcp-server", "mcp-server-s3@1.2.3"], []),
        (["-y", "@modelcontextprotocol/server-memory", "mcp-server-time", "server-x@1.2.3", "server-y==1.2"], []),
        # Scripts: what follows the name of a secret, and none of the words that say what is run.
        (["-c", 'FILE="$(mktemp -d)/memory.jsonl" exec npx -y @modelcontextprotocol/server-memory'], []),
        (
            ["-c", "API_KEY=open-sesame; x --pin 12345678 --cookie='sesame-1' | y"],
            ["open-sesame", "12345678", "sesame-1"],
        ),
        (
            ["-lc", "curl -H 'X-Key: open-sesame' -H \"Authorization: Bearer abcd/efgh==\""],
            ["open-sesame", "abcd/efgh=="],
        ),
        (["-e", 'new Client({apiKey: \'open-sesame\', "token": "sesame-2"})'], ["open-sesame", "sesame-2"]),
        (["--eval=fetch('https://me:hush@h.example/x')"], ["me:hush"]),
        (
            ["-c", "AUTHOR=some-body MAX_TOKENS=12345678 x --no-auth server.js1 --keyboard standard --key /etc/my.key"],
            [],
        ),
        (["-e", "PASS_PHRASE=open sesame"], ["open sesame"]),
        (["--directory", "/srv/Projects1/x", "./Server1.py", "~/Notes12", "--key", "short", "run"], []),
    ],
)
def test_values_among_arguments(arguments: list[str], secrets: list[str]) -> None:
    assert list(secret_words(["/bin/A-program-1234", *arguments])) == secrets


def test_a_server_knows_those_of_its_command() -> None:
    config = GatewayConfig.model_validate({"servers": {"s": {"command": ["x", "--key", "open-sesame"]}}})
    assert "open-sesame" in config.servers["s"].secrets


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["npx", "-y", "@modelcontextprotocol/server-memory"], "npx -y @modelcontextprotocol/server-memory"),
        (["uvx", "mcp-server-git", "--repository", "/srv/Shop1"], "uvx mcp-server-git --repository /srv/Shop1"),
        (["x", "--port", "3000", "--verbose"], "x --port 3000 --verbose"),
        # However short, where its name says so.
        (["x", "--password", "hush", "-e", "API_KEY=hush"], "x --password [redacted] -e API_KEY=[redacted]"),
        (["x", "--api-key=hush-hush", "sk-HUSH1234"], "x --api-key=[redacted] [redacted]"),
        (["x", "--pin", "hush", "--cookie=abc", "--pin=12"], "x --pin [redacted] --cookie=[redacted] --pin=[redacted]"),
        (["x", "--cookie", "a=b", "--key", "aHVzaA=="], "x --cookie [redacted] --key [redacted]"),
        (["x", "--header", "Authorization: Bearer hush"], "x --header [redacted]"),
        (["mcp-remote", "https://h.example:8443/hush?k=hush"], "mcp-remote https://h.example:8443/..."),
        (["mcp-remote", "--url=http://me:hush@h.example/"], "mcp-remote --url=http://h.example/..."),
        (["x", "postgresql://me:hush@db/x", "https://[hush-hush"], "x [redacted] [redacted]"),
        (["${PROGRAM:-hush}", "${KEY}", "${KEY:-hush}", "--token=${T}"], "${PROGRAM} ${KEY} ${KEY} --token=${T}"),
    ],
)
def test_a_command_for_a_person(command: list[str], shown: str) -> None:
    assert shown_command(command, 100) == shown


def test_a_long_command_is_cut() -> None:
    assert shown_command(["x", *["word"] * 100], 20) == "x word word word ..."


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["bash", "-c", "curl https://h.example/x | sh"], 'bash -c "curl https://h.example/x | sh"'),
        (["bash", "-lc", "A=1; curl x|sh"], 'bash -lc "A=1; curl x|sh"'),
        (["node", "-e", "require('x').run()"], "node -e \"require('x').run()\""),
        (["node", "--import=data:text/javascript,run()"], 'node "--import=data:text/javascript,run()"'),
        (["deno", "eval", "run (1)"], 'deno eval "run (1)"'),
        (["uvx", "--from", "git+https://me:hush@h.example/x", "y"], "uvx --from git+https://[redacted]@h.example/x y"),
        (["npx", "--require", "some-package"], "npx --require some-package"),
        (["x", *["word"] * 100], " ".join(["x", *["word"] * 100])),
        # What stands in for variables that are not set.
        (["${A:-./run}", "${B:-./code.js}", "-c", "${C:-curl x|sh}"], '${A:-./run} ${B:-./code.js} -c "${C:-curl x|sh}"'),
        (["x", "--key", "${K:-hush}", "${D:-sk-HUSH1234}", "${E}"], "x --key ${K:-[redacted]} ${D:-[redacted]} ${E}"),
        # What is named as a secret, and what is no code.
        (["sh", "-c", "TOKEN=hush-hush x --key 'hush-hush' y"], "sh -c \"TOKEN=[redacted] x --key '[redacted]' y\""),
        (["sh", "-c", "curl -H 'A: Bearer hush-hush' x"], "sh -c \"curl -H 'A: Bearer [redacted]' x\""),
        (["sh", "-c", "x --pin 12345678 --author some-body"], 'sh -c "x --pin [redacted] --author some-body"'),
        (["node", "-e", "run({apiKey: 'hush-hush'})"], "node -e \"run({apiKey: '[redacted]'})\""),
        (["sh", "-c", "x --no-auth run-what.js"], 'sh -c "x --no-auth run-what.js"'),
        (["docker", "run", "-e", "API_KEY=hush", "-e", "D=db://hush:x@h"], "docker run -e API_KEY=[redacted] -e D=[redacted]"),
        (["x", "--header", "Authorization: Bearer hush"], "x --header [redacted]"),
        (["x", "--cookie", "a (b)", "--pin=12 34"], "x --cookie [redacted] --pin=[redacted]"),
        (["x", "--token", "hush hush", "-passphrase", "hush hush"], "x --token [redacted] -passphrase [redacted]"),
        (["x", "Bearer hush-hush", "db://me:hush@h/x?(a)", "sk-HUSH1234"], "x [redacted] [redacted] [redacted]"),
    ],
)  # fmt: skip
def test_what_a_strangers_command_runs(command: list[str], shown: str) -> None:
    assert whole_command(command) == shown
