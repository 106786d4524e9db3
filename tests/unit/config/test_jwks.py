"""Which keys of a set are served, and what they say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_extproc.config.jwks import MAX_BYTES, MAX_KEYS, usable_keys
from tests.support.authorization_server import new_key, public_jwk

RSA, EC, OKP = (public_jwk(new_key(algorithm), algorithm) for algorithm in ("RS256", "ES256", "EdDSA"))
DEFAULT = ("RS256", "ES256", "EdDSA")


def served(*keys: object, algorithms: tuple[str, ...] = DEFAULT) -> list[dict[str, Any]]:
    found = json.loads(usable_keys(json.dumps({"keys": keys}), algorithms))["keys"]
    assert isinstance(found, list)
    return found


def test_each_key_says_its_algorithm() -> None:
    """Otherwise Envoy takes RS512 where RS256 alone is allowed."""
    assert {key["kid"]: key["alg"] for key in served(RSA, EC, OKP)} == {
        "RS256": "RS256", "ES256": "ES256", "EdDSA": "EdDSA",
    }  # fmt: skip
    assert [key["alg"] for key in served(RSA, algorithms=("PS256", "ES256", "RS256"))] == ["PS256", "RS256"]
    assert [key["alg"] for key in served({**RSA, "alg": "PS256"}, algorithms=("PS256", "RS256"))] == ["PS256"]


@pytest.mark.parametrize(
    "key",
    [
        "text",
        {},
        {**RSA, "use": "enc"},
        {**RSA, "alg": "RS512"},
        {**RSA, "n": "AQAB"},
        {**RSA, "n": RSA["n"] + "!"},
        {**RSA, "n": "A" * 2000},
        {**RSA, "n": "A" * 200 + RSA["n"][:142]},
        {**RSA, "e": ""},
        {**RSA, "e": "AQ"},
        {**RSA, "e": "AAAB"},
        {**EC, "crv": "P-384"},
        {**EC, "crv": "secp256k1"},
        {**EC, "crv": ["P-256"]},
        {**EC, "kty": ["EC"], "crv": {}},
        {**EC, "x": "AQAB"},
        {**OKP, "crv": "X25519"},
        {**OKP, "x": None},
        {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "alg": "HS256"},
    ],
)
def test_keys_that_verify_nothing_are_left_out(key: object) -> None:
    assert [found["kid"] for found in served(EC, key, RSA, OKP)] == ["ES256", "RS256", "EdDSA"]
    with pytest.raises(ValueError, match="no public key"):
        served(key)


def test_private_members_and_doubled_keys_are_left_out() -> None:
    [key] = served({**RSA, "d": "c2VjcmV0", "x5c": ["MII"], "other": 1}, RSA)
    assert set(key) == {"kty", "n", "e", "kid", "use", "alg"}


@pytest.mark.parametrize("text", ["", "[", "[]", "{}", '{"keys": {}}', "[" * 100_000, b"\xff", '{"keys": []}'])
def test_what_is_no_key_set_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match="the key set "):
        usable_keys(text, DEFAULT)


def test_bounds() -> None:
    with pytest.raises(ValueError, match="larger than"):
        usable_keys(" " * (MAX_BYTES + 1), DEFAULT)
    with pytest.raises(ValueError, match="more than"):
        served(*({**OKP, "kid": str(number)} for number in range(MAX_KEYS + 1)))
    [key] = served({**OKP, "kid": "k" * 1000})
    assert "kid" not in key


@pytest.mark.parametrize("kid", ["\ud800", "", 7, ["a"], None])
def test_an_id_that_envoy_can_not_read_is_left_out(kid: object) -> None:
    """Otherwise Envoy refuses all keys of the set."""
    [key] = served({**OKP, "kid": kid})
    assert "kid" not in key
