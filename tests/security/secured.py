"""A broker that asks who is there: TLS by a test's own authority, SASL by four mechanisms, rights by ACLs, quotas."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

import trustme
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from kafka.protocol.admin import AlterClientQuotasRequest

from deploy.kafka.node import LOOPBACK, Node, free_port
from worker.broker import KafkaLink

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD: Final = "correct-horse-battery"  # noqa: S105 a test's
WRONG_PASSWORD: Final = "wrong-horse-battery"  # noqa: S105 the same
USER: Final = "hamgate"
# The listener's name in the broker's settings, and how it is spoken to.
_LISTENERS: Final = {"SASL_SSL": "SASL_SSL", "SASL_PLAINTEXT": "SASL_PLAINTEXT", "TLS": "SSL", "EXPIRED": "SSL"}
_JAAS: Final = "org.apache.kafka.common.security"


class Secured:
    """The broker and its clients' settings. Over its plain listener everybody may do everything."""

    def __init__(self, folder: Path) -> None:
        self._authority, stranger = trustme.CA(), trustme.CA()
        self.ca, self.wrong_ca = folder / "ca.pem", folder / "wrong-ca.pem"
        self._authority.cert_pem.write_to_path(self.ca)
        stranger.cert_pem.write_to_path(self.wrong_ca)
        self._ports = {name: free_port() for name in _LISTENERS}
        self._plain = free_port()
        self.node = Node(folder / "node", port=self._plain, settings=self._settings())

    def _settings(self) -> dict[str, str]:
        outside = {"PLAINTEXT": self._plain, **self._ports}
        addresses = [f"{name}://{LOOPBACK}:{port}" for name, port in outside.items()]
        kinds = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **_LISTENERS}
        controller = free_port()
        plain = f'{_JAAS}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        # It takes tokens without a signature, as only a test's broker may.
        oauth = f'{_JAAS}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
        scram = f"{_JAAS}.scram.ScramLoginModule required;"
        jaas = {
            f"listener.name.{listener}.{mechanism}.sasl.jaas.config": module
            for listener in ("sasl_ssl", "sasl_plaintext")
            for mechanism, module in (
                ("plain", plain),
                ("scram-sha-256", scram),
                ("scram-sha-512", scram),
                ("oauthbearer", oauth),
            )
        }
        yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
        return {
            "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
            "listeners": ",".join([*addresses, f"CONTROLLER://{LOOPBACK}:{controller}"]),
            "advertised.listeners": ",".join(addresses),
            "listener.security.protocol.map": ",".join(f"{name}:{kind}" for name, kind in kinds.items()),
            "inter.broker.listener.name": "PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            # Two samples of a second, where a quota's mean is over ten: a test will not wait for those.
            "quota.window.num": "2",
            **self._keystore("ssl", None),
            **self._keystore("listener.name.expired.ssl", yesterday),
            **jaas,
        }

    def _keystore(self, prefix: str, until: dt.datetime | None) -> dict[str, str]:
        made = self._authority.issue_cert(LOOPBACK, "localhost", not_after=until)
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems).decode()
        return {
            f"{prefix}.keystore.type": "PEM",
            f"{prefix}.keystore.certificate.chain": chain.replace("\n", "\\n"),
            f"{prefix}.keystore.key": _pkcs8(made.private_key_pem.bytes()).replace("\n", "\\n"),
        }

    def link(self, listener: str, **more: Any) -> KafkaLink:
        """The link of a worker to one of its listeners, correct except for `more`."""
        kind = _LISTENERS[listener]
        options: dict[str, Any] = {"security_protocol": kind, "patience": 5}
        if "SASL" in kind:
            options |= {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": USER, "sasl_password": PASSWORD}
        if "SSL" in kind:
            options["tls_ca"] = self.ca
        return KafkaLink(f"{LOOPBACK}:{self._ports[listener]}", **(options | more))

    def add_user(self, name: str = USER) -> None:
        """Let a user in by SCRAM; PLAIN knows only the first."""
        mechanisms = (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)
        with self._admin() as admin:
            for mechanism in mechanisms:
                wanted = UserScramCredentialUpsertion(name, mechanism, PASSWORD, iterations=4096)
                answer = admin.alter_user_scram_credentials([wanted])
                assert not any(answer.values()), answer

    def grant(self, kind: ResourceType, name: str, *rights: str, user: str = USER) -> None:
        """Give a user rights on one thing."""
        allow = ACLPermissionType.ALLOW
        pattern = ResourcePattern(kind, name)
        with self._admin() as admin:
            admin.create_acls([ACL(f"User:{user}", "*", ACLOperation[right], allow, pattern) for right in rights])

    def throttle(self, bytes_a_second: float | None, user: str = USER) -> None:
        """Hold what a user produces to so much; None lets it go."""
        entry = AlterClientQuotasRequest.EntryData
        rate = entry.OpData(key="producer_byte_rate", value=bytes_a_second or 0.0, remove=bytes_a_second is None)
        who = entry.EntityData(entity_type="user", entity_name=user)
        request = AlterClientQuotasRequest(entries=[entry(entity=[who], ops=[rate])], validate_only=False)
        with self._admin() as admin:
            admin._manager.run(admin._manager.send, request)

    def _admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(bootstrap_servers=self.node.bootstrap)


def _pkcs8(key: bytes) -> str:
    """The key in the form that Kafka reads."""
    from cryptography.hazmat.primitives import serialization as forms  # noqa: PLC0415

    read = forms.load_pem_private_key(key, None)
    return read.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption()).decode()
