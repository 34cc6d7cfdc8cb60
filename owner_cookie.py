"""The cookie that names a browser's owner: anonymous, random, and read by the server alone."""

import re
import secrets
from typing import TYPE_CHECKING

from starlette.requests import cookie_parser

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "fourways_owner"
TOKEN = re.compile(r"[0-9a-f]{32}")  # 128 random bits
A_YEAR = 365 * 24 * 3600  # seconds


class OwnerCookie:
    """Middleware: a browser that asks for a page and brings no owner's cookie, or a malformed one, is given one.

    Only a page's own address sets it, never the files and the connection that the page opens afterwards: those run
    side by side, and the last of several cookies would not be the one that the connection came with.
    """

    def __init__(self, app: "ASGIApp") -> None:
        self.app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one request."""
        if scope["type"] != "http" or not _asks_for_a_page(scope) or token_in(_header(scope, b"cookie")):
            await self.app(scope, receive, send)
            return

        async def send_with_cookie(message: "Message") -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                cookie = new_cookie(secure=_is_https(scope)).encode()
                kept = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"cache-control"]
                # A cache between here and there would hand the same name to every browser.
                alone = [(b"cache-control", b"private, no-store"), (b"set-cookie", cookie)]
                message = {**message, "headers": [*kept, *alone]}
            await send(message)

        await self.app(scope, receive, send_with_cookie)


def new_cookie(secure: bool) -> str:
    """Give the header that names a browser from now on, for a year, out of reach of scripts and other sites."""
    flags = "; Secure" if secure else ""
    return f"{COOKIE}={secrets.token_hex(16)}; Max-Age={A_YEAR}; Path=/; HttpOnly; SameSite=Lax{flags}"


def token_in(header: str) -> str | None:
    """Read the token from a Cookie header; None where there is none or a malformed one."""
    return sound(cookie_parser(header).get(COOKIE))


def sound(token: object) -> str | None:
    """Return a token that this module can have made, else None."""
    return token if isinstance(token, str) and TOKEN.fullmatch(token) else None


def _asks_for_a_page(scope: "Scope") -> bool:
    return scope["method"] == "GET" and "text/html" in _header(scope, b"accept")


def _is_https(scope: "Scope") -> bool:
    """Say whether the browser came by https, to a proxy before this server perhaps."""
    return "https" in (scope.get("scheme"), _header(scope, b"x-forwarded-proto").split(",")[0].strip())


def _header(scope: "Scope", name: bytes) -> str:
    return "; ".join(value.decode("latin-1") for key, value in scope["headers"] if key == name)
