"""Users whom a proxy has logged in: believed from its addresses, in the operator's headers, and from nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("uvicorn", reason="the console needs the extra `console`")

from fastapi.testclient import TestClient
from pydantic import ValidationError

from console.access import Gate, UserRole
from console.guard import LOOPBACK, Guard
from console.proxies import Proxies, fronted
from console.serving import Console, application
from tests.consoles import PASSWORD, buried, fill, judged, parts, users_file
from tests.unit.test_console_pages import token_of
from worker.app import StartRefused
from worker.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from console.parts import ConsoleParts

PROXY, STRANGER = "10.1.0.7", "10.9.9.9"
GIVEN = {
    "console_proxies": "10.1.0.0/24,::1", "console_user_header": "X-Forwarded-User",
    "console_groups_header": "X-Forwarded-Groups", "console_roles": "sms-ops=operator,sms-abuse=analyst,*=viewer",
}  # fmt: skip


def proxied(folder: Path, *, users: Path | None = None, **more: Any) -> ConsoleParts:
    made = parts(folder)
    made.proxies = Proxies.of(Settings(**(GIVEN | more)))
    made.gate = Gate(users, has_proxies=True)
    fill(made, [judged(1)], [buried(0, b'{"text": 5')])
    return made


def client_at(made: ConsoleParts, address: str, **headers: str) -> TestClient:
    app: Any = fronted(Guard(application(made), LOOPBACK if made.gate.is_open else None), made.proxies)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return TestClient(app, base_url="http://hamgate.example", client=(address, 5), headers=sent, follow_redirects=False)


@pytest.mark.parametrize(
    ("groups", "role"),
    [("", UserRole.VIEWER), ("staff", UserRole.VIEWER), ("staff, sms-abuse", UserRole.ANALYST),
     ("sms-abuse,sms-ops", UserRole.OPERATOR), ("xsms-ops", UserRole.VIEWER), ("*", UserRole.VIEWER)],
)  # fmt: skip
def test_the_proxys_user_has_the_highest_role_of_his_groups(tmp_path: Path, groups: str, role: UserRole) -> None:
    made = proxied(tmp_path)
    client = client_at(made, PROXY, X_Forwarded_User="anna@carrier.example", X_Forwarded_Groups=groups)

    page = client.get("/")

    assert page.status_code == 200
    assert "anna@carrier.example" in page.text
    assert f"role: {role}" in page.text
    assert "Log out" not in page.text  # the proxy's session is not ours to end


@pytest.mark.parametrize("address", [STRANGER, "127.0.0.1", "testclient", "10.1.1.1"])
def test_headers_of_anybody_else_are_ignored(tmp_path: Path, address: str) -> None:
    made = proxied(tmp_path)
    client = client_at(made, address, X_Forwarded_User="anna", X_Forwarded_Groups="sms-ops", X_Forwarded_For=PROXY)

    for path in ("/", "/history", "/dead-letters/0/0"):
        assert client.get(path).headers["location"] == "/login"
    assert client.get("/api/bands").status_code == 401
    assert "at the address of the proxy" in client.get("/login").text
    assert client.post("/login", data={"name": "anna", "password": "x"}).status_code == 403


def test_an_address_that_a_proxy_forwards_is_not_the_proxys(tmp_path: Path) -> None:
    made = proxied(tmp_path)
    through = client_at(made, PROXY, X_Forwarded_User="anna", X_Forwarded_For=STRANGER)

    assert through.get("/").status_code == 200


@pytest.mark.parametrize("off", ["console_proxies"])
def test_without_the_settings_no_header_is_read(tmp_path: Path, off: str) -> None:
    assert Proxies.of(Settings()) is None
    made = parts(tmp_path, users=users_file(tmp_path))
    client = client_at(made, PROXY, X_Forwarded_User="anna", X_Forwarded_Groups="sms-ops")

    assert client.get("/").headers["location"] == "/login"
    with pytest.raises(ValidationError, match="need the proxies' addresses"):
        Settings(**(GIVEN | {off: None}))


@pytest.mark.parametrize(
    "headers",
    [
        [("X-Forwarded-User", "anna"), ("X-Forwarded-User", "eve")],
        [("X-Forwarded-User", "eve"), ("X-Forwarded-User", "")],
        [("X-Forwarded-User", "anna"), ("X-Forwarded-Groups", "staff"), ("X-Forwarded-Groups", "sms-ops")],
        [("X-Forwarded-User", "<script>alert(1)</script>")],
        [("X-Forwarded-User", "a" * 129)],
        [("X-Forwarded-User", "an na")],
    ],
)
def test_a_name_that_comes_twice_or_that_nobody_has_is_nobodys(tmp_path: Path, headers: list[tuple[str, str]]) -> None:
    client = client_at(proxied(tmp_path), PROXY)

    assert client.get("/history", headers=headers).headers["location"] == "/login"  # type: ignore[arg-type]
    said = client.get("/login", headers=headers).text  # type: ignore[arg-type]
    assert "cannot be used, or gave it twice" in said
    assert "alert(1)" not in said


def test_a_user_without_a_role_is_told_so_and_let_nowhere(tmp_path: Path) -> None:
    made = proxied(tmp_path, console_roles="sms-ops=operator")
    client = client_at(made, PROXY, X_Forwarded_User="anna", X_Forwarded_Groups="staff")

    assert client.get("/").headers["location"] == "/login"
    assert "none of your groups has a role here" in client.get("/login").text


def test_a_token_is_the_proxied_users_own_and_ends_with_his_role(tmp_path: Path) -> None:
    made = proxied(tmp_path)
    anna = client_at(made, PROXY, X_Forwarded_User="anna", X_Forwarded_Groups="sms-ops")
    token = token_of(anna.get("/").text)
    body = {"reasons": ["invalid-json"]}

    assert anna.post("/api/redrive", json=body).status_code == 403
    assert anna.post("/api/redrive", json=body, headers={"X-CSRF-Token": token}).status_code == 202
    eve = client_at(made, PROXY, X_Forwarded_User="eve", X_Forwarded_Groups="sms-ops")
    eve.cookies.update(anna.cookies)
    assert eve.post("/api/redrive", json=body, headers={"X-CSRF-Token": token}).status_code == 403
    stranger = client_at(made, STRANGER)
    stranger.cookies.update(anna.cookies)
    assert stranger.post("/api/redrive", json=body, headers={"X-CSRF-Token": token}).status_code == 401
    demoted = {"X-CSRF-Token": token, "X-Forwarded-Groups": "staff"}
    assert anna.post("/api/redrive", json=body, headers=demoted).status_code == 403
    assert '"user": "anna"' in (tmp_path / "audit.jsonl").read_text()


def test_users_of_the_file_still_log_in_beside_a_proxy(tmp_path: Path) -> None:
    made = proxied(tmp_path, users=users_file(tmp_path))
    client = client_at(made, STRANGER, X_Forwarded_User="anna")
    form = {"name": "viewer-user", "password": PASSWORD, "token": token_of(client.get("/login").text)}

    assert client.post("/login", data=form).headers["location"] == "/"
    assert "viewer-user" in client.get("/").text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"console_proxies": "10.0.0.1/24"}, "has host bits set"),
        ({"console_proxies": "0.0.0.0/0"}, "is everybody"),
        ({"console_proxies": "10.0.0"}, "console_proxies"),
        ({"console_proxies": "proxy.example"}, "console_proxies"),
        ({"console_roles": "sms-ops=chief"}, "console_roles"),
        ({"console_roles": None}, "needs console_user_header and console_roles"),
        ({"console_user_header": "X Forwarded"}, "console_user_header"),
    ],
)
def test_settings_that_do_not_hold_are_named(wrong: dict[str, str | None], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Settings(**(GIVEN | wrong))


def test_behind_a_proxy_it_may_listen_to_others_without_users_of_its_own(tmp_path: Path) -> None:
    folder = {"console_folder": tmp_path / "console", "console_port": 0, "console_host": "0.0.0.0"}  # noqa: S104
    with pytest.raises(StartRefused, match="HAMGATE_CONSOLE_PROXIES"):
        Console(Settings(**folder))
    Console(Settings(**folder, **GIVEN))._socket.close()
