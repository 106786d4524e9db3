"""How context-forge is configured, and its administrator's token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path

from bench.peers.contextforge import ContextForge, environment, token


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_the_token_is_signed_with_the_secret_of_the_configuration() -> None:
    head, claims, signature = token(1000.5).split(".")
    secret = environment(Path("/tmp"))["JWT_SECRET_KEY"].encode()
    assert decoded(signature) == hmac.new(secret, f"{head}.{claims}".encode(), hashlib.sha256).digest()
    assert json.loads(decoded(head))["alg"] == "HS256"
    assert {"iat": 1000, "exp": 4600}.items() <= json.loads(decoded(claims)).items()


def test_the_database_is_in_the_folder_of_the_run(tmp_path: Path) -> None:
    assert environment(tmp_path)["DATABASE_URL"] == f"sqlite:///{tmp_path}/mcp.db"


def test_names_are_slugs() -> None:
    assert ContextForge().named("s1", "search_records_7") == "s1-search-records-7"
