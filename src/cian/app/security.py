"""Which requests the server answers: those of its own page alone, opened with the address that `cian app` prints.

Another site in the same browser can send requests to this server, under a name of its own (DNS rebinding) or not. So
Host, Origin and Sec-Fetch-Site are checked, and every request needs the token, which only the printed address has. The
page gets it as a cookie.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "media-src 'self' blob:",
        "worker-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """Refuses requests of others, and adds the headers that the browser needs to protect the page.

    Args:
        token: the secret in the printed address.
        cookie: the name of the cookie that holds it from then on.
        hosts: the names of this machine, besides "localhost" and its addresses.
    """

    def __init__(self, app: ASGIApp, token: str, cookie: str, hosts: Iterable[str] = ()):
        self.app, self.token, self.cookie = app, token, cookie
        self.hosts = frozenset(name.casefold() for name in ("localhost", *hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no WebSocket is accepted
        headers = Headers(scope=scope)
        brought = scope["method"] == "GET" and scope["path"] == "/" and self._in_address(scope)

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    added[name] = value
                added.setdefault("Cache-Control", "no-store")
                if brought and message["status"] == 200:
                    added["Set-Cookie"] = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
            await send(message)

        if (why := self._refused(scope, headers)) is None and not (brought or self._in_cookie(headers)):
            why = "This needs the address that `cian app` printed, with its token. Open that one."
        app = self.app if why is None else JSONResponse({"error": why}, 403)
        await app(scope, receive, protected)

    def _refused(self, scope: Scope, headers: Headers) -> str | None:
        """Why a request is not one of the own page; None if it may be."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return "This server does not answer under this name. Open the address that `cian app` printed."
        origins = headers.getlist("origin")
        if any(origin not in (f"http://{hosts[0]}", f"https://{hosts[0]}") for origin in origins):
            return "The request comes from another site. Open the address that `cian app` printed."
        opened = scope["method"] == "GET" and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not opened:
            return "The request comes from another site. Open the address that `cian app` printed."
        return None

    def _is_own(self, host: str) -> bool:
        """Whether a Host is this machine. Any address is: a name is what an attacker would need."""
        name, colon, port = host.rpartition(":")
        if not colon or host.endswith("]"):  # no port
            name = host
        elif not (port.isascii() and port.isdigit()):
            return False
        if name.casefold() in self.hosts:
            return True
        try:
            ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
        except ValueError:
            return False
        return True

    def _in_address(self, scope: Scope) -> bool:
        try:
            query = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=20)
        except ValueError:  # more fields
            return False
        return any(self._matches(value) for value in query.get("token", ()))

    def _in_cookie(self, headers: Headers) -> bool:
        for line in headers.getlist("cookie"):
            try:
                cookies = SimpleCookie(line)
            except CookieError:
                continue
            if self.cookie in cookies and self._matches(cookies[self.cookie].value):
                return True
        return False

    def _matches(self, value: str) -> bool:
        return hmac.compare_digest(value.encode(errors="replace"), self.token.encode())
