"""What keys of the native format are called in documents, for messages about those."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_WORDS: Final[Mapping[str, str]] = {
    "set another `prefix` or `separator`": "give the backend another name",
    "oauth.resource": "protectedResourceMetadata.resource",
    "`authentication`": "securityPolicy",
    "ca_inline": "caCertificateRefs",
    "insecure_skip_verify": "insecureSkipVerify",
    "min_version": "minVersion",
    "max_version": "maxVersion",
    "subject_alt_names": "subjectAltNames",
    "ecdh_curves": "ecdhCurves",
    "signature_algorithms": "signatureAlgorithms",
    "client_certificate_inline": "`tls.crt`",
    "client_key_inline": "`tls.key`",
    "certificate_inline": "`tls.crt`",
    "key_inline": "`tls.key`",
}
_WORD: Final = re.compile("|".join(rf"(?<![\w.]){re.escape(word)}(?![\w])" for word in _WORDS))


def in_documents_words(message: str) -> str:
    """A message of the native format for those who wrote documents.

    >>> in_documents_words("min_version is above max_version")
    'minVersion is above maxVersion'
    """
    return _WORD.sub(lambda found: _WORDS[found[0]], message)
