"""Checks in front of every request: connections, time for a header, host, origin, token; and headers of every answer.

    app = Guard(app, token, metrics)
    uvicorn.Config(app, http=limited(connections=1024))

Without a token only pages of this machine may call: the Host header must name it, so that no web site can reach the
service through a name of its own (DNS rebinding). Browsers send an Origin; it must be the service itself.
"""

import asyncio
import hmac
from urllib.parse import urlsplit

import h11
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from uvicorn.protocols.http.h11_impl import H11Protocol

from runtime.serve.metrics import Metrics

HEADER_TIME = 10.0  # s from a connection to its whole request header
TOKEN_PATHS = ("/v1/", "/metrics")  # those that need the token; the page has no secrets, probes have no token
LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
PROTOCOL = "shrike"  # of a WebSocket from a browser, which cannot set headers: shrike, bearer.TOKEN
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def refuse(token: str | None, scope: Scope) -> tuple[int, str] | None:
    """Return status and reason if the request is refused. `token` None: only callers of this machine."""
    headers = Headers(scope=scope)
    host, origin = headers.get("host", ""), headers.get("origin")
    try:
        name, page = urlsplit(f"//{host}").hostname, None if origin is None else urlsplit(origin).netloc
    except ValueError:
        return 403, "host, origin: expected addresses"
    if token is None and name not in LOCAL:
        return 403, "host: expected 127.0.0.1 or localhost; start the service with --token for other names"
    if page is not None and page != host:
        return 403, "origin: expected the service's own page"
    if token is not None and scope["path"].startswith(TOKEN_PATHS):
        given = headers.get("authorization", "").removeprefix("Bearer ")
        given = given or next((name[7:] for name in scope.get("subprotocols", ()) if name.startswith("bearer.")), "")
        if not hmac.compare_digest(given.encode(), token.encode()):
            return 401, "token: expected the header Authorization: Bearer TOKEN"
    return None


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, token: str | None, metrics: Metrics) -> None:
        self._app, self._token, self._metrics = app, token, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        refused = refuse(self._token, scope)
        if refused is None:
            await self._app(scope, receive, send_with_headers)
            return
        status, reason = refused
        self._metrics.refused.labels("token" if status == 401 else "origin").inc()
        extra = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        response = JSONResponse({"error": reason}, status, extra)
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send_with_headers).send_denial_response(response)
        else:
            await response(scope, receive, send_with_headers)


def limited(connections: int) -> type[H11Protocol]:
    """Return uvicorn's protocol with a limit of connections, and of the time until a request's header is complete."""

    class Limited(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._deadline = self.loop.call_later(HEADER_TIME, self._close_idle)
            if len(self.connections) > connections:
                transport.write(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            self._deadline.cancel()
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._deadline.cancel()
            self._deadline = self.loop.call_later(HEADER_TIME, self._close_idle)

        def _close_idle(self) -> None:
            if self.conn.their_state is h11.IDLE:
                self.transport.abort()

    return Limited
