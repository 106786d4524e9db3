"""Access tokens of an issuer that the benchmark plays: one is used again and again, or many are used in turn."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable
from pathlib import Path

import orjson
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

ISSUER = "https://issuer.example.com"
AUDIENCE = "https://gateway.example.com/mcp"

MANY = 4500
"""More than Envoy remembers, which forgets the one that was used longest ago first, and than the worker does, which forgets
the one that it knows longest: each use of so many in turn is like its first one."""

_KEY_ID = "bench"
_LIFETIME = 86_400
"""Seconds."""


class Issuer:
    """Signs tokens with RS256, as most do."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)

    def keys(self) -> bytes:
        """Its public key, as a JSON Web Key Set (RFC 7517)."""
        numbers = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "kid": _KEY_ID, "alg": "RS256", "n": _number(numbers.n), "e": _number(numbers.e)}
        return orjson.dumps({"keys": [key]})

    def write_keys(self, file: Path) -> None:
        """Writes the key set."""
        file.write_bytes(self.keys())

    def tokens(self, count: int) -> Iterable[str]:
        """Different ones of the same client, each as many clients get them: with a scope and some claims."""
        now = int(time.time())
        for number in range(count):
            claims = {
                "iss": ISSUER, "sub": "bench", "aud": AUDIENCE, "iat": now, "exp": now + _LIFETIME, "jti": str(number),
                "azp": "bench-client", "scope": "openid mcp:read mcp:call", "groups": ["engineering", "on-call"],
            }  # fmt: skip
            yield self._signed(claims)

    def _signed(self, claims: dict[str, object]) -> str:
        """In the compact form of RFC 7515."""
        header = {"alg": "RS256", "typ": "JWT", "kid": _KEY_ID}
        signed = b".".join(_text(orjson.dumps(part)) for part in (header, claims))
        signature = self._key.sign(signed, padding.PKCS1v15(), SHA256())
        return b".".join((signed, _text(signature))).decode()


def _text(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _number(value: int) -> str:
    return _text(value.to_bytes((value.bit_length() + 7) // 8)).decode()
