"""Users, sessions and tokens of the console; and the limit on guesses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from console import access
from console.access import Gate, Throttle, User, UserRole, UsersError, fits, hashed, read_users
from tests.consoles import PASSWORD, users_file

if TYPE_CHECKING:
    from pathlib import Path


def begun(gate: Gate, name: str) -> str:
    user = gate.log_in(name, PASSWORD, "127.0.0.1")
    assert isinstance(user, User)
    return gate.begin(user)


def test_a_password_fits_its_own_hash_alone() -> None:
    line = hashed("a long password")

    assert fits("a long password", line)
    assert not fits("a long passwore", line)
    assert hashed("a long password") != line  # its salt is its own


def test_a_session_is_its_users_with_his_role(tmp_path: Path) -> None:
    gate = Gate(users_file(tmp_path))
    visitor = gate.visitor(begun(gate, "analyst-user"))

    assert visitor
    assert (visitor.name, visitor.role) == ("analyst-user", UserRole.ANALYST)


@pytest.mark.parametrize("name", ["analyst-user", "nobody", "", "\ud800"])
def test_a_wrong_password_or_name_lets_nobody_in(tmp_path: Path, name: str) -> None:
    gate = Gate(users_file(tmp_path))

    assert gate.log_in(name, "wrong", "127.0.0.1") == 0.0


def test_without_users_everybody_on_this_host_is_the_operator() -> None:
    visitor = Gate(None).visitor(None)

    assert visitor
    assert (visitor.name, visitor.role) == ("local", UserRole.OPERATOR)


@pytest.mark.parametrize(
    "change", [lambda c: c[:-1] + "0", lambda c: "W10=" + c[4:], lambda _: "", lambda _: "..", lambda _: "é.é"]
)
def test_a_cookie_that_was_changed_is_nobodys(tmp_path: Path, change: object) -> None:
    gate = Gate(users_file(tmp_path))
    cookie = begun(gate, "viewer-user")
    forged = change(cookie)  # type: ignore[operator]

    assert forged == cookie or gate.visitor(forged) is None


def test_a_cookie_of_another_console_is_nobodys(tmp_path: Path) -> None:
    users = users_file(tmp_path)

    assert Gate(users).visitor(begun(Gate(users), "viewer-user")) is None


def test_a_session_is_over_with_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(users_file(tmp_path))
    monkeypatch.setattr(access, "SESSION", -1)

    assert gate.visitor(begun(gate, "viewer-user")) is None


def test_a_new_password_role_or_removal_ends_a_users_sessions(tmp_path: Path) -> None:
    path = users_file(tmp_path)
    gate = Gate(path)
    cookies = [begun(gate, f"{role}-user") for role in UserRole]
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join([f"viewer-user operator {lines[1].split()[2]}", f"analyst-user analyst {hashed('another one')}"])
    )
    os.utime(path, ns=(1, 1))

    assert [gate.visitor(cookie) for cookie in cookies] == [None, None, None]


def test_a_file_that_is_broken_later_keeps_the_users_of_before(tmp_path: Path) -> None:
    path = users_file(tmp_path)
    gate = Gate(path)
    cookie = begun(gate, "viewer-user")
    path.write_text("nonsense")
    os.utime(path, ns=(1, 1))

    assert gate.visitor(cookie)


def test_a_token_is_good_for_its_own_session(tmp_path: Path) -> None:
    gate = Gate(users_file(tmp_path))
    one, other = gate.session(gate.begin()), gate.session(gate.begin())

    assert gate.is_token(one, gate.token(one))
    assert not gate.is_token(one, gate.token(other))
    assert not gate.is_token("", gate.token(""))
    assert not gate.is_token(one, "é")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("anna operator", "line 1: allowed"),
        ("anna chief {hash}", "line 1: allowed"),
        ("anna viewer md5$1", "line 1: allowed"),
        ("anna viewer scrypt$2$8$1$AAAA$AAAA", "line 1: allowed"),
        ("# none", "nobody is in it"),
        ("anna viewer {hash}\nanna viewer {hash}", "line 2: allowed"),
        ("a/b viewer {hash}", "line 1: allowed"),
    ],
)
def test_a_users_file_that_does_not_hold_is_refused_by_line(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "users"
    path.write_text(content.replace("{hash}", hashed("0123456789")))
    path.chmod(0o600)

    with pytest.raises(UsersError, match=said) as refused:
        read_users(path)
    assert "anna" not in str(refused.value)


def test_a_users_file_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    path = users_file(tmp_path)
    path.chmod(0o644)

    with pytest.raises(UsersError, match="chmod 640"):
        read_users(path)


def test_guesses_are_limited_by_name_and_by_address_and_come_back() -> None:
    throttle = Throttle()

    assert [throttle.wait("anna", f"10.0.0.{n}", 0.0) for n in range(10)] == [0.0] * 10
    assert throttle.wait("anna", "10.0.0.99", 0.0) == pytest.approx(60)
    assert [throttle.wait(f"user-{n}", "10.9.9.9", 0.0) for n in range(10)] == [0.0] * 10
    assert throttle.wait("other", "10.9.9.9", 0.0) == pytest.approx(20)
    assert throttle.wait("anna", "10.0.0.99", 61.0) == 0.0


def test_each_role_may_all_that_the_one_before_may() -> None:
    assert [[role.may(needed) for needed in UserRole] for role in UserRole] == [
        [True, False, False], [True, True, False], [True, True, True],
    ]  # fmt: skip
