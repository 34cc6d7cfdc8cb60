"""The cookie that names a browser: given once, with a page, and never again while it is sound."""

import asyncio
import re

import pytest

import owner_cookie
from owner_cookie import OwnerCookie, token_in

TOKEN = "0123456789abcdef" * 2
PAGE = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def asked_for(headers=PAGE, status=200, **scope):
    """Ask the middleware for something and return the headers of its answer."""
    sent = []

    async def app(scope, receive, send):
        kept = [(b"content-type", b"text/html"), (b"Cache-Control", b"public, max-age=60")]
        await send({"type": "http.response.start", "status": status, "headers": kept})
        await send({"type": "http.response.body", "body": b"page"})

    async def send(message):
        sent.append(message)

    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    asked = {"type": "http", "method": "GET", "path": "/train", "scheme": "http", "headers": encoded, **scope}
    asyncio.run(OwnerCookie(app)(asked, None, send))
    assert sent[-1]["body"] == b"page" and (b"content-type", b"text/html") in sent[0]["headers"]
    return [(name.decode().lower(), value.decode()) for name, value in sent[0]["headers"]]


def answered(headers=PAGE, **scope):
    """Ask the middleware for something and return the cookies that its answer sets."""
    return [value for name, value in asked_for(headers, **scope) if name == "set-cookie"]


def test_a_browser_without_a_name_is_given_one_for_a_year():
    (cookie,) = answered()
    assert re.fullmatch(r"fourways_owner=[0-9a-f]{32}; Max-Age=31536000; Path=/; HttpOnly; SameSite=Lax", cookie)


def test_no_cache_keeps_an_answer_that_names_a_browser_and_others_stay_as_they_are():
    def caching(**asked):
        return [value for name, value in asked_for(**asked) if name == "cache-control"]

    assert caching() == ["private, no-store"]
    assert caching(headers={**PAGE, "cookie": f"fourways_owner={TOKEN}"}) == ["public, max-age=60"]
    assert caching(headers={"accept": "*/*"}) == ["public, max-age=60"]


def test_no_two_browsers_are_given_the_same_name():
    assert len({answered()[0] for _ in range(50)}) == 50


def test_a_browser_that_has_a_name_keeps_it():
    assert answered({**PAGE, "cookie": f"fourways_owner={TOKEN}"}) == []


@pytest.mark.parametrize("value", ["", "short", TOKEN + "0", TOKEN.upper(), "g" * 32, "../" + TOKEN, TOKEN[:-1] + "é"])
def test_a_malformed_name_is_replaced(value):
    assert len(answered({**PAGE, "cookie": f"fourways_owner={value}"})) == 1


@pytest.mark.parametrize("other", ['theme={"dark": true, "size": 2}', "a=b=c", "; ;", "x", 'q="unclosed', "k=v\t[1,2]"])
def test_cookies_of_other_programs_on_this_host_do_not_hide_it(other):
    assert token_in(f"{other}; fourways_owner={TOKEN}; {other}") == TOKEN


@pytest.mark.parametrize(("scheme", "forwarded", "secure"),
    [("http", None, False), ("https", None, True), ("http", "https", True), ("http", "https, http", True),
     ("http", "http", False)],
)  # fmt: skip
def test_the_cookie_is_secure_on_https_also_behind_a_proxy(scheme, forwarded, secure):
    (cookie,) = answered({**PAGE, **({"x-forwarded-proto": forwarded} if forwarded else {})}, scheme=scheme)
    assert cookie.endswith("; Secure") == secure


@pytest.mark.parametrize("asked", [
    {"headers": {"accept": "*/*"}}, {"headers": {}}, {"method": "POST"}, {"method": "HEAD"}, {"status": 404},
    {"status": 500}, {"type": "websocket"},
])  # fmt: skip
def test_what_a_page_loads_afterwards_sets_no_cookie(asked):
    assert answered(**asked) == []


@pytest.mark.parametrize("token", [None, 7, TOKEN.encode(), "", TOKEN + "\n", object()])
def test_what_is_no_token_names_nobody(token):
    assert owner_cookie.sound(token) is None
