"""Access tokens: kept while they are good, renewed before they are not; a failure says why, without a secret."""

from __future__ import annotations

import contextlib
import json
import shlex
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from structlog.testing import capture_logs

from tests.endpoint import Endpoint, jwt
from worker.broker import BrokerError, KafkaLink
from worker.broker.client.connecting import is_refusal
from worker.broker.link import explained
from worker.broker.tokens import Grant, OAuth, TokenError, TokenRefusedError, Tokens, provider
from worker.settings import SettingsError, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PRIVATE = "a-secret/with:signs"
OAUTH = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    provider.cache_clear()


def printing(text: str, status: int = 0) -> str:
    program = f"import sys; print({text!r}); sys.exit({status})"
    return shlex.join([sys.executable, "-c", program])


def says(status: int, said: Any = None, **headers: str) -> Callable[[], tuple[int, bytes, dict[str, str]]]:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    return lambda: (status, body, headers)


def credentials(url: str, **more: Any) -> OAuth:
    return OAuth(url=url, client_id="ham:gate", secret=PRIVATE, **more)


class Source:
    """Gives a new token each time, or fails."""

    def __init__(self, life: float | None) -> None:
        self.life, self.count = life, 0
        self.failure: Exception | None = None

    def __call__(self) -> Grant:
        self.count += 1
        if self.failure:
            raise self.failure
        return Grant(f"token-{self.count}", self.life)


def test_a_token_is_kept_until_a_fifth_of_its_life_is_left() -> None:
    source, now = Source(100), [0.0]
    tokens = Tokens(source, lambda: now[0])

    found = []
    for now[0] in (1000, 1001, 1079, 1081, 1160, 1162):
        found.append(tokens.token())

    assert found == ["token-1"] * 3 + ["token-2"] * 2 + ["token-3"]


def test_one_that_does_not_say_when_it_ends_is_kept_for_less_than_a_minute() -> None:
    source, now = Source(None), [0.0]
    tokens = Tokens(source, lambda: now[0])

    assert tokens.token() == "token-1"
    now[0] = 47
    assert tokens.token() == "token-1"
    now[0] = 49
    assert tokens.token() == "token-2"


def test_a_token_that_is_still_good_is_used_while_no_new_one_can_be_had() -> None:
    source, now = Source(100), [0.0]
    tokens = Tokens(source, lambda: now[0])
    tokens.token()
    source.failure = TokenError("away")

    with capture_logs() as lines:
        now[0] = 85
        assert tokens.token() == "token-1"
        now[0] = 86
        assert tokens.token() == "token-1"  # without asking again: it was just away
    now[0] = 101
    with pytest.raises(TokenError, match="away"):
        tokens.token()
    source.failure = None

    assert tokens.token() == "token-4"
    assert [(line["event"], line["valid_s"]) for line in lines] == [("could not renew the access token", 15)]


def test_a_jwt_says_itself_when_it_ends() -> None:
    made, now = [jwt("hamgate", life=50)], [time.time()]
    tokens = Tokens(lambda: Grant(made[0], 9999), lambda: now[0])

    first = tokens.token()
    made.insert(0, jwt("hamgate", life=5000))
    assert tokens.token() == first
    now[0] += 45

    assert tokens.token() != first


def test_a_command_prints_a_token_or_an_endpoint_s_answer() -> None:
    assert provider(OAuth(command=printing("  a.b.c \n"))).token() == "a.b.c"
    assert provider(OAuth(command=printing('{"access_token": "d", "expires_in": 60}'))).token() == "d"


@pytest.mark.parametrize(
    ("command", "kind", "said"),
    [
        (printing(PRIVATE, 3), TokenError, "HAMGATE_SASL_OAUTH_COMMAND ended with 3; run it as the worker's user"),
        ("/no/such/program", TokenRefusedError, "HAMGATE_SASL_OAUTH_COMMAND cannot be run (No such file or directory)"),
        ("an 'open quote", TokenRefusedError, "HAMGATE_SASL_OAUTH_COMMAND cannot be run (No closing quotation)"),
        (printing(""), TokenRefusedError, "what came is not an access token"),
        (printing("two words"), TokenRefusedError, "what came is not an access token"),
        (printing('{"token": "a-secret"}'), TokenRefusedError, "HAMGATE_SASL_OAUTH_COMMAND gives no access_token"),
        (printing(jwt("x", life=-5)), TokenError, "the access token that came has expired; check the clock"),
    ],
)
def test_a_command_without_a_token_is_named_by_what_it_did_and_not_by_what_it_printed(
    command: str, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind) as caught:
        provider(OAuth(command=command)).token()

    assert said in str(caught.value)
    assert "a-secret" not in str(caught.value)


def test_client_credentials_are_sent_as_the_standard_says_and_once_for_all_clients() -> None:
    with Endpoint(says(200, {"access_token": "t-1", "expires_in": 300, "token_type": "Bearer"})) as endpoint:
        oauth = credentials(endpoint.url, scope="kafka.write")
        assert [provider(oauth).token(), provider(oauth).token()] == ["t-1", "t-1"]

    [(scheme, who, form)] = endpoint.asked
    assert (scheme, who) == ("Basic", "ham%3Agate:a-secret%2Fwith%3Asigns")
    assert form == {"grant_type": ["client_credentials"], "scope": ["kafka.write"]}


@pytest.mark.parametrize(
    ("answer", "is_final", "said"),
    [
        (says(401, {"error": "invalid_client"}), True, "HAMGATE_SASL_OAUTH_URL answers 401 (invalid_client)"),
        (says(400, {"error": PRIVATE}), True, "HAMGATE_SASL_OAUTH_URL answers 400; check it"),
        (says(503, b"busy"), False, "HAMGATE_SASL_OAUTH_URL answers 503"),
        (says(200, b"<html>"), True, "HAMGATE_SASL_OAUTH_URL gives no access_token"),
        (says(302, b"", Location="/elsewhere"), False, "HAMGATE_SASL_OAUTH_URL answers 302"),
    ],
)
def test_an_endpoint_s_refusal_is_final_and_its_trouble_is_not(
    answer: Callable[[], tuple[int, bytes, dict[str, str]]], said: str, *, is_final: bool
) -> None:
    with Endpoint(answer) as endpoint, pytest.raises(TokenError) as caught:
        provider(credentials(endpoint.url)).token()

    assert str(caught.value).startswith(said)
    assert is_refusal(caught.value) is is_final
    assert PRIVATE not in str(caught.value)
    assert len(endpoint.asked) == 1, "a redirect is not followed: the secret would go with it"


@contextlib.contextmanager
def answering(raw: bytes) -> Iterator[str]:
    """A server that answers with these bytes, whatever it is asked, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(raw)

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/token"


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"access_token": "a-sec',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{"access_token": "a-sec',
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n{}",
        b"",
    ],
    ids=["no-http", "cut", "cut-chunk", "long-header", "nothing"],
)
def test_an_endpoint_that_breaks_off_is_asked_again(raw: bytes) -> None:
    with answering(raw) as url, pytest.raises(TokenError, match="HAMGATE_SASL_OAUTH_URL") as caught:
        provider(credentials(url)).token()

    assert not is_refusal(caught.value)
    assert "a-sec" not in str(caught.value)


@pytest.mark.parametrize(
    ("life", "kept"),
    [("3599", 3599), (3599, 3599), ("3599.5", 3599.5), (None, 60), ("soon", 60), ("nan", 60), ({"s": 1}, 60)],
)
def test_a_life_may_be_a_number_in_quotes_and_one_that_is_none_is_not_known(life: Any, kept: float) -> None:
    now, made = [0.0], iter("abc")

    def answer() -> Grant:
        return msgspec.json.decode(json.dumps({"access_token": next(made), "expires_in": life}), type=Grant)

    tokens = Tokens(answer, lambda: now[0])

    found = []
    for now[0] in (1000, 1000 + 0.79 * kept, 1000 + 0.81 * kept):
        found.append(tokens.token())

    assert found == ["a", "a", "b"]


def test_a_secret_for_this_host_goes_through_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Endpoint(says(200, {"access_token": "of-the-proxy"})) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/token"))
        with Endpoint(says(200, {"access_token": "of-the-endpoint"})) as endpoint:
            assert provider(credentials(endpoint.url)).token() == "of-the-endpoint"

    assert not proxy.asked


@pytest.mark.parametrize(("status", "is_asked_again"), [(503, True), (401, False)])
def test_a_start_without_a_token_says_why_and_asks_again_only_where_that_can_help(
    status: int, *, is_asked_again: bool
) -> None:
    with Endpoint(says(status, {})) as endpoint:
        link = KafkaLink(
            "127.0.0.1:1",
            security_protocol="SASL_SSL",
            sasl_mechanism="OAUTHBEARER",
            sasl_oauth_url=endpoint.url,
            sasl_username="u",
            sasl_password=PRIVATE,
            patience=1.5,
        )
        with pytest.raises(BrokerError, match=rf"^HAMGATE_SASL_OAUTH_URL answers {status}"), explained(link):
            link.connect(lambda **_: None)

    assert (len(endpoint.asked) > 1) is is_asked_again
    assert PRIVATE not in repr(link)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (OAUTH, "HAMGATE_SASL_MECHANISM: OAUTHBEARER needs one of sasl_oauth_command and sasl_oauth_url"),
        (
            OAUTH | {"sasl_oauth_command": "x", "sasl_oauth_url": "https://a.example/token"},
            "HAMGATE_SASL_MECHANISM: OAUTHBEARER needs one of",
        ),
        (OAUTH | {"sasl_oauth_url": "https://a.example/token"}, "HAMGATE_SASL_OAUTH_URL: needs sasl_username and"),
        (OAUTH | {"sasl_oauth_command": "x", "sasl_username": "u"}, "HAMGATE_SASL_OAUTH_COMMAND: sasl_username"),
        (OAUTH | {"sasl_mechanism": "PLAIN", "sasl_oauth_command": "x"}, "HAMGATE_SECURITY_PROTOCOL: SASL_SSL needs"),
        ({"sasl_oauth_command": "x"}, "HAMGATE_SASL_MECHANISM: SASL settings need security_protocol"),
        (
            OAUTH | {"sasl_oauth_url": "http://a.example/token"},
            "HAMGATE_SASL_OAUTH_URL: 'http://a.example/token'",
        ),
        (
            OAUTH | {"sasl_oauth_url": "https://u:p@a.example/"},
            "HAMGATE_SASL_OAUTH_URL: 'https://u:p@a.example/'",
        ),
    ],
)
def test_settings_that_give_no_token_stop_the_start(
    flags: dict[str, str], complaint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SettingsError) as caught:
        load(flags)

    assert str(caught.value).startswith(complaint)


def test_settings_that_give_one_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(OAUTH | {"sasl_oauth_command": "token --for kafka"}).sasl_oauth_command
    monkeypatch.setenv("HAMGATE_SASL_PASSWORD", PRIVATE)

    found = load(OAUTH | {"sasl_oauth_url": "https://a.example/oauth2/token?x=1", "sasl_username": "u"})

    assert found.sasl_oauth_url == "https://a.example/oauth2/token?x=1"
