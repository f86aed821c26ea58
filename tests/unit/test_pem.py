"""The files of a TLS link that cannot be used stop the start, by setting and file."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from worker import settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder of files as one should be given, and as one should not."""
    authority = trustme.CA()
    ours, others = authority.issue_cert("worker.example"), authority.issue_cert("other.example")
    made = {
        "ca.pem": (ca := authority.cert_pem.bytes()),
        "ca.der": ssl.PEM_cert_to_DER_cert(ca.decode()),
        "cut.pem": ca[:200],
        "empty.pem": b"",
        "certificate.pem": ours.cert_chain_pems[0].bytes(),
        "key.pem": (key := ours.private_key_pem.bytes()),
        "other-key.pem": others.private_key_pem.bytes(),
        "encrypted-key.pem": serialization.load_pem_private_key(key, None).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"open sesame"),
        ),
    }
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def load(files: Path, **names: str) -> settings.Settings:
    return settings.load({"security_protocol": "SSL"} | {name: str(files / file) for name, file in names.items()})


RIGHT: Final = {"tls_ca": "ca.pem", "tls_certificate": "certificate.pem", "tls_key": "key.pem"}
WRONG: Final = [
    ("tls_ca", "ca.der", "holds no certificate in PEM that can be read"),
    ("tls_ca", "cut.pem", "holds no certificate in PEM that can be read"),
    ("tls_ca", "empty.pem", "holds no certificate in PEM that can be read"),
    ("tls_ca", "key.pem", "holds no certificate in PEM that can be read"),
    ("tls_certificate", "key.pem", "holds no certificate in PEM that can be read"),
    ("tls_key", "certificate.pem", "holds no key in PEM that can be read"),
    ("tls_key", "other-key.pem", "is not the key of "),
    ("tls_key", "encrypted-key.pem", "is encrypted"),
]


def test_files_that_can_be_used_are_taken(files: Path) -> None:
    assert load(files, **RIGHT).tls_key == files / "key.pem"


@pytest.mark.parametrize(("setting", "file", "why"), WRONG)
def test_a_file_that_cannot_be_used_is_refused_by_name(files: Path, setting: str, file: str, why: str) -> None:
    with pytest.raises(settings.SettingsError) as caught:
        load(files, **RIGHT | {setting: file})

    assert str(caught.value).startswith(f"HAMGATE_{setting.upper()}: {files / file} {why}")
    assert "PRIVATE KEY" not in str(caught.value)
