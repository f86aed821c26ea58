"""Checks the PEM files of a TLS connection at start.

The Kafka client reads them anew for each connection: one that it cannot use would look like brokers that do not answer,
and for an encrypted key it would ask for a passphrase where nobody is.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from pathlib import Path


class _EncryptedError(Exception):
    """The key wants a passphrase."""


def fault(ca: Path | None, certificate: Path | None, key: Path | None) -> tuple[str, str] | None:
    """Return the first setting whose file cannot be used, and why; None when all can."""
    for setting, file in (("tls_ca", ca), ("tls_certificate", certificate)):
        try:
            if file:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
        except ssl.SSLError:
            return setting, f"{file} holds no certificate in PEM that can be read"
        except OSError as error:
            return setting, f"{file} cannot be read ({error.strerror})"
    why = _not_the_key(certificate, key) if certificate and key else None
    return ("tls_key", f"{key} {why}") if why else None


def _not_the_key(certificate: Path, key: Path) -> str | None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password=_refuse_a_passphrase)
    except _EncryptedError:
        return (
            "is encrypted, and a worker cannot ask for its passphrase; keep it unencrypted, readable by this user alone"
        )
    except ssl.SSLError as error:
        mismatch = error.reason == "KEY_VALUES_MISMATCH"
        return f"is not the key of {certificate}" if mismatch else "holds no key in PEM that can be read"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def _refuse_a_passphrase() -> NoReturn:
    raise _EncryptedError
