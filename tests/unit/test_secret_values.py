from __future__ import annotations

import pytest

from mcp_extproc.secret_values import secret_variables


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # Its name says so.
        ("TOKEN", "memory"), ("API_KEY", "debug"), ("DB_PASSWORD", "3000"), ("GITHUB_PAT", "word"), ("PIN", "1234"),
        ("SESSION", "/srv/data"), ("OTP_CODE", "none"), ("my-secret", "x"), ("SENTRY_DSN", "https://h.example/1"),
        ("AUTHORIZATION", "word"), ("OAUTH_ID", "word"), ("GITHUB_TOKENS", "word"), ("PASSPHRASE", "word"),
        # It does not read like an ordinary one.
        ("X", "hunter2"), ("X", "correct-horse-battery"), ("X", "correcthorsebattery"), ("X", "sk-ABCDEFGH1234"),
        ("X", "123456"), ("X", "AbCdEfGhIjKl1"), ("X", "https://me:hush@h.example/"), ("X", "https://h.example/?k=hush"),
        ("X", "https://hooks.example/services/T0/B0/AbCdEfGhIj012345"), ("X", "/run/0123456789abcdef0123"),
        ("X", "word word2"),
    ],
)  # fmt: skip
def test_values_that_may_be_secret(name: str, value: str) -> None:
    assert list(secret_variables({name: value})) == [value]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOG_LEVEL", "debug"), ("NODE_ENV", "production"), ("TZ", "Europe/Berlin"), ("PORT", "3000"), ("DEBUG", "True"),
        ("LANG", "en_US"), ("MODULE", "filesystem"), ("DATA", "/home/u/memory-of-everybody.json"), ("DATA", "./data"),
        ("MAX_TOKENS", "4096"), ("GIT_AUTHOR", "somebody"), ("TOKENIZERS_PARALLELISM", "false"), ("KEYBOARD", "us"),
        ("KEYWORDS", "memory"), ("PASS_THROUGH", "yes"), ("DESIGN", "plain"), ("DATA", "~/Notes/2024"),
        ("BASE", "http://localhost:3000/v1"), ("BASE", "https://api.example.com"), ("X", ""),
    ],
)  # fmt: skip
def test_values_that_have_to_stay_readable(name: str, value: str) -> None:
    assert list(secret_variables({name: value})) == []
