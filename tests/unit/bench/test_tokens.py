"""Tokens that are accepted, and more of them than Envoy remembers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jwt

from bench.gateway import Gateway, http_server
from bench.tokens import AUDIENCE, ISSUER, MANY, Issuer
from mcp_extproc.extproc import identity


def test_each_is_another_one_of_the_same_client(tmp_path: Path) -> None:
    issuer = Issuer()
    issuer.write_keys(tmp_path / "keys")
    [key] = jwt.PyJWKSet.from_dict(json.loads((tmp_path / "keys").read_text())).keys
    tokens = [*issuer.tokens(3)]
    found = [jwt.decode(token, key, algorithms=["RS256"], audience=AUDIENCE, issuer=ISSUER) for token in tokens]
    assert len(set(tokens)) == 3
    assert {claims["sub"] for claims in found} == {"bench"}


def test_each_use_of_many_in_turn_is_a_first_one(tmp_path: Path) -> None:
    """Envoy forgets the one that was used longest ago first, and the worker the one that it knows longest."""
    keys = tmp_path / "keys.json"
    Issuer().write_keys(keys)
    one = {"issuer": ISSUER, "audiences": [AUDIENCE], "jwks": {"file": str(keys)}}
    gateway = Gateway(tmp_path, 1, {"s": http_server(2)}, more={"authentication": {"oauth": {"issuers": [one]}}})
    [remembered] = {int(size) for size in re.findall(r'"jwtCacheSize": ?(\d+)', gateway.bootstrap())}
    assert 0 < remembered < MANY
    assert identity.MAX_KNOWN < MANY
