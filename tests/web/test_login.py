"""Who gets in, for how long, and what a cookie is worth that is not as it was made."""

from __future__ import annotations

import stat

import pytest
from fastapi.testclient import TestClient

from irflow.web import door
from irflow.web.sessions import SESSION_S, Ended, Sessions
from tests.intake.site import Site, site
from tests.web.forms import fields
from tests.web.scene import Scene

COOKIE = "irflow-8765"


def is_in(client: TestClient) -> bool:
    reply = client.get("/")
    assert reply.status_code in (200, 303)
    if reply.status_code == 303:
        assert reply.headers["location"].startswith("/login?next=")
    return bool(reply.status_code == 200)


def test_pages_are_shown_only_to_those_who_have_logged_in(at: Site, asked: Scene) -> None:
    stranger = TestClient(at.app, base_url=at.client.base_url, client=("127.0.0.1", 1), follow_redirects=False)
    for path in ("/", "/leases", asked.url, f"{asked.url}/timeline", f"{asked.url}/documents/incident-report.md"):
        reply = stranger.get(path)
        assert (reply.status_code, reply.text) == (303, ""), path
    assert stranger.get("/events", headers={"accept": "text/event-stream"}).status_code == 401
    assert is_in(at.visitor())


def test_after_the_login_one_is_where_one_wanted_to_be(at: Site, asked: Scene) -> None:
    client = TestClient(at.app, base_url=at.client.base_url, client=("127.0.0.1", 1))
    page = client.get(f"{asked.url}/timeline")
    assert 'name="token"' in page.text
    reply = client.post("/login", data={"token": at.tokens.issue("ben"), "next": f"{asked.url}/timeline"})
    assert reply.url.path == f"{asked.url}/timeline"
    assert "Timeline of" in reply.text


@pytest.mark.parametrize("next_", [
    "//evil.example", "https://evil.example", "/\\evil.example", "/login?next=//x", "javascript:alert(1)",
    "/incidents/../x", "/%2f/evil", "/incidents/x\r\nset-cookie: a=b", "/" + "a" * 3000,
])  # fmt: skip
def test_a_login_sends_nobody_elsewhere(at: Site, next_: str) -> None:
    client = TestClient(at.app, base_url=at.client.base_url, client=("127.0.0.1", 1), follow_redirects=False)
    reply = client.post("/login", data={"token": at.tokens.issue("ben"), "next": next_})
    assert reply.headers["location"] == "/"
    assert "evil" not in client.get("/login", params={"next": next_}).text


@pytest.mark.parametrize(
    "token", ["", "x", "ann", "ann\0", "💥" * 100, "a" * 10_000], ids=["none", "x", "name", "zero", "other", "long"]
)
def test_what_is_no_token_gets_nobody_in(at: Site, token: str) -> None:
    at.tokens.issue("ann")
    reply = at.client.post("/login", data={"token": token})
    assert reply.status_code == 401
    assert "set-cookie" not in reply.headers
    assert token in ("", "x", "ann") or token not in reply.text


def test_a_token_of_a_name_that_is_no_operator_gets_nobody_in(at: Site) -> None:
    assert at.client.post("/login", data={"token": at.tokens.issue("gone")}).status_code == 401


def test_the_cookie_is_for_this_site_and_no_script(at: Site) -> None:
    reply = at.client.post("/login", data={"token": at.tokens.issue("ann")}, follow_redirects=False)
    cookie = reply.headers["set-cookie"].lower()
    assert cookie.startswith(COOKIE)
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie
    assert f"max-age={SESSION_S}" in cookie


def test_over_tls_the_cookie_goes_nowhere_else(at: Site) -> None:
    client = TestClient(at.app, base_url="https://irflow.example", client=("192.0.2.7", 1), follow_redirects=False)
    reply = client.post("/login", data={"token": at.tokens.issue("ann")}, headers={"origin": "https://irflow.example"})
    cookie = reply.headers["set-cookie"]
    assert cookie.startswith("__Host-irflow-")
    assert "; Secure" in cookie
    assert is_in(client)


def test_a_session_is_over_twelve_hours_after_its_login_whatever_is_done_in_it(at: Site) -> None:
    client = at.visitor()
    at.clock.forward(SESSION_S - 60)
    assert is_in(client)
    at.clock.forward(61)
    assert not is_in(client)


def test_a_changed_or_forged_cookie_is_nobodys(at: Site) -> None:
    client = at.visitor("dee")
    good = client.cookies[COOKIE]
    body, *signature = good.rsplit(".", 2)
    strangers = Sessions(b"0" * 32, Ended(at.state / "none", at.clock), at.clock)
    mark = at.tokens.mark("dee") or ""
    forged = strangers.begin("ann", mark)
    for text in (
        forged, ".".join([forged.rsplit(".", 2)[0], *signature]),
        ".".join([body, signature[0], ("B" if signature[1][0] == "A" else "A") + signature[1][1:]]),
        body, "", "x" * 5000,
        ".".join([body, "AAAAAA", signature[-1]]), good.replace(".", ".."),
    ):  # fmt: skip
        client.cookies.set(COOKIE, text)
        assert not is_in(client), text
    client.cookies.set(COOKIE, good)
    assert is_in(client)


def test_a_cookie_of_another_installation_is_nobodys(at: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    with site(tmp_path_factory.mktemp("other")) as other:
        theirs = other.visitor().cookies[COOKIE]
    client = at.visitor()
    client.cookies.set(COOKIE, theirs)
    assert not is_in(client)


def test_a_logout_ends_the_session_for_every_copy_of_its_cookie(at: Site) -> None:
    client, thief = at.visitor(), at.visitor("ben")
    thief.cookies.set(COOKIE, client.cookies[COOKIE])
    assert is_in(thief)
    reply = client.post("/logout", data=_form(client))
    assert (reply.status_code, reply.headers["location"]) == (303, "/login")
    assert not is_in(client)
    assert not is_in(thief)


def _form(client: TestClient) -> dict[str, list[str]]:
    return fields(client.get("/").text, "/logout")


def test_a_session_and_a_logout_survive_a_restart(at: Site) -> None:
    stays, left = at.visitor(), at.visitor("ben")
    left_cookie = left.cookies[COOKIE]
    left.post("/logout", data=_form(left))
    with site(at.state) as again:
        client = TestClient(again.app, base_url=at.client.base_url, client=("127.0.0.1", 1), follow_redirects=False)
        client.cookies.set(COOKIE, stays.cookies[COOKIE])
        assert is_in(client)
        client.cookies.set(COOKIE, left_cookie)
        assert not is_in(client)


def test_a_removed_operator_is_out_at_the_next_request(at: Site) -> None:
    client = at.visitor("ben")
    at.operators[:] = [one for one in at.operators if one.name != "ben"]
    assert not is_in(client)


@pytest.mark.parametrize("how", ["revoked", "replaced"])
def test_a_token_that_is_dead_ends_its_session_at_the_next_request(at: Site, how: str) -> None:
    client = at.visitor("ben")
    at.tokens.revoke("ben") if how == "revoked" else at.tokens.issue("ben")
    assert not is_in(client)


def test_the_key_of_sessions_is_made_once_and_for_nobody_else(at: Site) -> None:
    key = at.state / "web-session.key"
    assert len(key.read_bytes()) == 32
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_tries_from_one_address_are_limited_and_do_not_keep_others_out(at: Site) -> None:
    good = at.tokens.issue("ann")
    guesser, other = (
        TestClient(at.app, base_url="https://irflow.example", client=(address, 1), follow_redirects=False)
        for address in ("192.0.2.7", "192.0.2.8")
    )
    replies = [guesser.post("/login", data={"token": f"guess {n}"}) for n in range(door.TRIES_PER_MINUTE + 1)]
    assert [one.status_code for one in replies] == [401] * door.TRIES_PER_MINUTE + [429]
    assert int(replies[-1].headers["retry-after"]) > 0
    assert guesser.post("/login", data={"token": good}).status_code == 429, "the right one is not told apart"
    assert other.post("/login", data={"token": good}).status_code == 303
    at.clock.forward(60)
    assert guesser.post("/login", data={"token": good}).status_code == 303


def test_a_team_behind_one_address_logs_in_as_often_as_it_likes(at: Site) -> None:
    good = at.tokens.issue("ann")
    team = TestClient(at.app, base_url="https://irflow.example", client=("192.0.2.7", 1), follow_redirects=False)
    for _ in range(door.ALL_PER_MINUTE + 1):
        assert team.post("/login", data={"token": good}).status_code == 303
    replies = [team.post("/login", data={"token": f"guess {n}"}) for n in range(door.TRIES_PER_MINUTE + 1)]
    assert [one.status_code for one in replies] == [401] * door.TRIES_PER_MINUTE + [429]


def test_tries_from_many_addresses_are_limited_in_all(at: Site) -> None:
    statuses = []
    for n in range(door.ALL_PER_MINUTE + 5):
        client = TestClient(at.app, base_url="https://irflow.example", client=(f"2001:db8:0:{n:x}::1", 1))
        statuses.append(client.post("/login", data={"token": "guess"}).status_code)
    assert statuses == [401] * door.ALL_PER_MINUTE + [429] * 5


def test_addresses_of_one_ipv6_network_share_their_tries(at: Site) -> None:
    statuses = []
    for n in range(door.TRIES_PER_MINUTE + 1):
        client = TestClient(at.app, base_url="https://irflow.example", client=(f"2001:db8::{n:x}", 1))
        statuses.append(client.post("/login", data={"token": "guess"}).status_code)
    assert statuses[-1] == 429


def test_no_token_and_no_key_is_ever_shown(at: Site, asked: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    token = at.tokens.issue("ann")
    client = at.visitor(token=token)
    pages = [client.get(path) for path in ("/", asked.url, "/login")] + [
        at.client.post("/login", data={"token": token[:-1]})
    ]
    shown = caplog.text + "".join(one.text + str(one.headers) for one in pages)
    assert token[:-1] not in shown
    assert client.cookies[COOKIE] not in "".join(one.text for one in pages)
    assert token not in client.cookies[COOKIE]
