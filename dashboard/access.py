"""Access control: anyone on this machine, and anyone elsewhere who has the token.

Without a token, only requests addressed to this machine's own names are answered; otherwise a web page could read the
dashboard by DNS rebinding.
"""

import hashlib
import hmac
import ipaddress
from http.cookies import SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE_S = 30 * 24 * 3600
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Access:
    """Lets authorised requests through, and adds security headers.

    Args:
      app: the protected application.
      token: what requests must present; None requires nothing, but answers only to this machine's names.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app, self._token = app, token
        # The cookie holds a value derived from the token, so a leaked cookie does not reveal the token. Cookies ignore
        # ports, so each dashboard on a host needs a cookie name of its own.
        derived = hmac.new((token or "").encode(), b"bidist dashboard", hashlib.sha256).hexdigest()
        self._cookie, self._name = derived[8:], f"bidist_{derived[:8]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await (self._answer(scope) or self._app)(scope, receive, strict)

    def _answer(self, scope: Scope) -> Response | None:
        """Returns the response to an unauthorised request; None if the request is authorised."""
        headers = Headers(scope=scope)
        if self._token is None:
            host = headers.get("host", "")
            name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
            if is_loopback(name.removeprefix("[").removesuffix("]")):
                return None
            return PlainTextResponse(
                f"This dashboard answers to 127.0.0.1 and localhost, not to {name!r}. To reach it from elsewhere, "
                "start bidist dashboard with --host 0.0.0.0 and open the address with the token that it prints.\n",
                400,
            )
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(bearer.strip(), self._token):
            return None
        query = parse_qsl(scope["query_string"].decode(errors="replace"), keep_blank_values=True)
        if _same(dict(query).get("token", ""), self._token):
            rest = urlencode([pair for pair in query if pair[0] != "token"])
            # A relative path cannot redirect to another host.
            answer = RedirectResponse("/" + scope["path"].lstrip("/") + (f"?{rest}" if rest else ""), 303)
            answer.set_cookie(self._name, self._cookie, COOKIE_S, httponly=True, samesite="strict")
            return answer
        cookies = SimpleCookie(headers.get("cookie", ""))
        if self._name in cookies and _same(cookies[self._name].value, self._cookie):
            return None
        return PlainTextResponse(
            "This dashboard needs a token: open the address that bidist dashboard printed, which ends in ?token=..., "
            "or send the header Authorization: Bearer TOKEN.\n",
            401,
            {"WWW-Authenticate": "Bearer"},
        )


def is_loopback(host: str) -> bool:
    """Returns whether an address, or this machine's own name, is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
