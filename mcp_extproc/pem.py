"""Certificates and keys in PEM (RFC 7468), in files that are replaced while they are used."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

from mcp_extproc.file_signature import file_signature

if TYPE_CHECKING:
    import ssl

_ENCRYPTED = "the key is encrypted: use one without a passphrase"

_Content = TypeVar("_Content")


class TlsError(Exception):
    """Files can't be used. ``str()`` is the files and the reason.

    Attributes:
        files: which ones.
        why: the reason alone.
    """

    def __init__(self, files: Sequence[Path], why: str) -> None:
        super().__init__(f"{' with '.join(map(str, files))}: {why}")
        self.files = files
        self.why = why


def load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Have a context show a certificate.

    Raises:
        TlsError: it can't be used with the key.
    """
    try:
        context.load_cert_chain(certificate, key, password=_refuse)
    except (OSError, ValueError) as error:
        raise TlsError((certificate, key), _why(error, "a certificate and its key")) from None


def load_authorities(context: ssl.SSLContext, file: Path) -> None:
    """Have a context trust authorities.

    Raises:
        TlsError: the file has none.
    """
    try:
        context.load_verify_locations(file)
    except OSError as error:
        raise TlsError((file,), _why(error, "certificates of authorities")) from None


class Newest(Generic[_Content]):
    """The newest valid content of files. Thread-safe.

    They may be replaced in any way: by renaming, by overwriting, or behind a symbolic link that changes, as in Kubernetes.

    Args:
        files: their paths.
        read: reads them all.
        told: is told of each change, and of why one can't be used.

    Raises:
        TlsError: of ``read``. Later ones are told, and the previous content stays in use.
    """

    def __init__(
        self, files: Iterable[Path], read: Callable[[], _Content], told: Callable[[TlsError | None], None]
    ) -> None:
        self._files = tuple(files)
        self._read = read
        self._told = told
        self._lock = threading.Lock()
        self._seen = self._stamps()
        self._content = read()

    def current(self) -> _Content:
        """The same object until the files change."""
        with self._lock:
            stamps = self._stamps()
            if stamps != self._seen:
                self._renew(stamps)
            return self._content

    def _renew(self, stamps: list[object]) -> None:
        content, problem = self._content, None
        try:
            content = self._read()
        except TlsError as error:
            problem = error
        if self._stamps() != stamps:
            return  # Replaced while they were read: the next one who asks looks again.
        self._seen = stamps
        self._content = content
        self._told(problem)

    def _stamps(self) -> list[object]:
        return [file_signature(file) for file in self._files]


def _why(error: Exception, expected: str) -> str:
    import ssl  # loads OpenSSL, which is there once a context is

    if isinstance(error, ssl.SSLError):
        reasons = {"KEY_VALUES_MISMATCH": "the key belongs to another certificate"}
        return reasons.get(error.reason or "", f"expected {expected}, in PEM")
    return str(error)


def _refuse() -> NoReturn:
    raise ValueError(_ENCRYPTED)
