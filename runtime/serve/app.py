"""HTTP and WebSocket endpoints; docs/serve.md describes the protocol.

app = build_app(Service(...))

POST /v1/score     any sound file -> its summary; ?verdicts=true: all JSON lines
WS   /v1/stream    raw samples, or WebM and Ogg -> JSON lines
GET  /v1/models /metrics /healthz /readyz /openapi.json /
"""

import asyncio
import json
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from runtime import __version__
from runtime.audio.channels import Channel
from runtime.audio.containers import TYPES, PcmFormat
from runtime.audio.decode import MAX_RATE, MIN_RATE
from runtime.card.model_card import ModelCard
from runtime.engines import EngineAwayError
from runtime.serve.containers import ContainerFeed
from runtime.serve.guard import PROTOCOL, Guard
from runtime.serve.metrics import Metrics
from runtime.serve.options import Options
from runtime.serve.streams import LiveBatcher, LiveStream, error_line
from runtime.serve.uploads import Job, UploadPool
from runtime.support.errors import ShrikeError, printable
from runtime.support.suggestions import nearest

PAGE = Path(__file__).parent / "page"
WAITING_LINES = 512  # JSON lines that a client may leave unread, a minute of verdicts
POLL = 0.02  # s between checks whether a stream of a file takes more sound
BUSY = {"Retry-After": "5"}
NORMAL, POLICY, AGAIN = 1000, 1008, 1013  # WebSocket close codes; the last: try again later
SLACK, SLOWEST = 20.0, 8_000  # s, bytes per second: the time that an upload may take
CONTAINER = "container"  # WebM, Ogg and others, by ffmpeg
BOOLEAN = ("true", "false")
AWAY = "the server that computes is away: try again later"
LONGEST_NAME = 200  # characters


@dataclass(frozen=True)
class Service:
    """Everything that the endpoints need."""

    options: Options
    token: str | None
    cards: dict[str, ModelCard]  # of all models, by the names that clients use
    score_model: str
    stream_model: str
    batcher: LiveBatcher
    pool: UploadPool
    workers: ThreadPoolExecutor  # as many threads as the pool has processes
    metrics: Metrics


def build_app(service: Service) -> Guard:
    """Return the ASGI application."""
    endpoints = Endpoints(service)
    routes = [
        Route("/v1/score", endpoints.score, methods=["POST"]),
        Route("/v1/models", endpoints.models),
        WebSocketRoute("/v1/stream", endpoints.stream),
        Route("/metrics", endpoints.metrics),
        Route("/healthz", endpoints.health),
        Route("/readyz", endpoints.ready),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]
    handlers: dict[Any, Any] = {HTTPException: _refuse}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), service.token, service.metrics)


class Endpoints:
    """The endpoints of one service; all run in the event loop's thread."""

    def __init__(self, service: Service) -> None:
        self._service, self._options, self._metrics = service, service.options, service.metrics
        self._most = self._options.max_mb * 1_000_000  # bytes of an upload
        self._streams = self._uploads = 0

    async def models(self, request: Request) -> Response:
        """Describe the models and limits."""
        service = self._service
        found = [
            {
                "name": name,
                "precision": card.precision,
                "streaming": card.state is not None,
                "window": card.frontend.seconds,
                "rate": card.frontend.rate,
                "threshold": card.score.threshold,
                "calibrated": card.score.fitted_on is not None,
                "created": card.created,
            }
            for name, card in service.cards.items()
        ]
        use, options = {"score": service.score_model, "stream": service.stream_model}, self._options
        counts = {"uploads": options.max_uploads, "streams": options.max_streams, "idle": options.idle}
        limits = {"upload_bytes": self._most} | counts
        return JSONResponse({"models": found} | use | {"limits": limits, "version": __version__})

    async def metrics(self, request: Request) -> Response:
        """Expose the metrics."""
        return Response(self._metrics.expose(), media_type="text/plain; version=0.0.4")

    async def health(self, request: Request) -> Response:
        """Report whether the service works at all: if not, it must be started again."""
        broken = self._service.batcher.broken
        return JSONResponse({"state": "broken" if broken else "ok"}, 503 if broken else 200)

    async def ready(self, request: Request) -> Response:
        """Report whether one more stream is accepted."""
        full = self._service.batcher.broken or self._streams >= self._options.max_streams
        state = "full" if full else "ready" if self._service.batcher.available else "away"
        return JSONResponse({"state": state}, 200 if state == "ready" else 503)

    # ---- files

    async def score(self, request: Request) -> Response:
        """Score the sound file that is the request's body."""
        try:
            job = parse_job(request.query_params, self._service)
        except ShrikeError as error:
            raise HTTPException(400, str(error)) from None
        if request.headers.get("content-type", "").startswith("multipart/"):
            raise HTTPException(415, "expected the file itself as the body: curl --data-binary @call.wav")
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self._most:
            raise self._too_large()
        if self._uploads >= self._options.max_uploads:
            self._metrics.refused.labels("uploads").inc()
            raise HTTPException(503, f"{self._uploads} files are being scored: try again later", BUSY)
        if not self._service.batcher.available:
            self._metrics.refused.labels("away").inc()
            raise HTTPException(503, AWAY, BUSY)
        self._uploads += 1
        self._metrics.uploads.set(self._uploads)
        descriptor, state = os.memfd_create("upload"), "error"
        try:
            await self._receive(request, descriptor)
            loop = asyncio.get_running_loop()
            scored = await loop.run_in_executor(self._service.workers, self._service.pool.score, descriptor, job)
            state = scored.state
        except EngineAwayError as error:
            raise HTTPException(503, str(error), BUSY) from None
        except ShrikeError as error:
            raise HTTPException(422, str(error)) from None
        except ClientDisconnect:
            return Response(status_code=400)
        finally:
            os.close(descriptor)
            self._uploads -= 1
            self._metrics.uploads.set(self._uploads)
            self._metrics.files.labels(state).inc()
        if request.query_params.get("verdicts") == "true":
            return Response(scored.lines, media_type="application/x-ndjson")
        return Response(scored.summary, media_type="application/json")

    async def _receive(self, request: Request, descriptor: int) -> None:
        """Write the body into memory; a client that is slower than SLOWEST is refused."""
        parts, received, began = aiter(request.stream()), 0, time.monotonic()
        with open(descriptor, "wb", closefd=False) as file:
            while True:
                left = began + SLACK + received / SLOWEST - time.monotonic()
                try:
                    part = await asyncio.wait_for(anext(parts), max(left, 0.01))
                except StopAsyncIteration:
                    return
                except asyncio.TimeoutError:
                    self._metrics.refused.labels("slow").inc()
                    raise HTTPException(408, "the file arrives too slowly", {"Connection": "close"}) from None
                received += len(part)
                if received > self._most:
                    raise self._too_large()
                file.write(part)

    def _too_large(self) -> HTTPException:
        self._metrics.refused.labels("size").inc()
        reason = f"expected at most {self._options.max_mb:,} MB: send a shorter part"
        return HTTPException(413, reason, {"Connection": "close"})

    # ---- streams

    async def stream(self, socket: WebSocket) -> None:
        """Run one stream to its end."""
        try:
            name, pcm, live = parse_stream(socket.query_params, self._service)
        except ShrikeError as error:
            await socket.send_denial_response(JSONResponse({"error": str(error)}, 400))
            return
        await socket.accept(PROTOCOL if PROTOCOL in socket.scope["subprotocols"] else None)
        away = not self._service.batcher.available
        if away or self._streams >= self._options.max_streams or self._service.batcher.broken:
            self._metrics.refused.labels("away" if away else "streams").inc()
            reason = AWAY if away else f"{self._streams} streams are open: try again later"
            with suppress(WebSocketDisconnect, RuntimeError):
                await socket.send_text(error_line(reason))
                await socket.close(AGAIN, "away" if away else "too many streams")
            return
        self._streams += 1
        self._metrics.streams.set(self._streams)
        rate = self._service.batcher.model.card.frontend.rate
        outbox = Outbox(socket)
        stream = self._service.batcher.open(name, pcm or PcmFormat("f32le", rate, 1), live, outbox.emit)
        feed = ContainerFeed(stream, rate) if pcm is None else None
        sending = outbox.sending
        receiving = asyncio.create_task(self._receive_sound(socket, stream, feed))
        try:
            await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
            if receiving.done() and not receiving.exception() and receiving.result():
                while not sending.done():  # queued sound and the summary are still to come
                    before = outbox.sent
                    await asyncio.wait((sending,), timeout=self._options.idle)
                    if outbox.sent == before:
                        break
            with suppress(WebSocketDisconnect, RuntimeError):
                if outbox.overflow:
                    await socket.close(POLICY, f"{WAITING_LINES} lines were not read")
                elif sending.done() and not sending.exception():
                    await socket.close(NORMAL)
        finally:
            stream.abort()
            if feed:
                feed.abort()
            for task in (sending, receiving):
                task.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)
            self._streams -= 1
            self._metrics.streams.set(self._streams)

    async def _receive_sound(self, socket: WebSocket, stream: LiveStream, feed: ContainerFeed | None) -> bool:
        """Take sound until the client ends the stream (True) or leaves (False)."""
        end = stream.end if feed is None else feed.end
        while True:
            try:
                message = await asyncio.wait_for(socket.receive(), self._options.idle)
            except asyncio.TimeoutError:
                stream.end(f"no sound came for {self._options.idle:g} s")
                return True
            if message["type"] == "websocket.disconnect":
                return False
            data = message.get("bytes")
            if data is None:
                if not is_end(message.get("text") or ""):
                    stream.send(error_line('expected binary messages with sound, or {"type": "end"}'))
                end()
                return True
            try:
                if feed:
                    await feed.put(data)
                elif not await self._put(stream, data):
                    stream.end("the longest duration of a stream is reached")
                    return True
            except ShrikeError as error:
                stream.send(error_line(str(error)))
                stream.end()
                return True
            while not stream.live and stream.full and not stream.closed:
                await asyncio.sleep(POLL)

    async def _put(self, stream: LiveStream, data: bytes) -> bool:
        """Queue a message; one that is not live waits for room, part by part. False at the longest duration."""
        for part in [data] if stream.live else stream.parts(data):
            while not stream.live and stream.full and not stream.closed:
                await asyncio.sleep(POLL)
            if not stream.put(part):
                return False
        return True


class Outbox:
    """Lines for one client, which may be a slow reader: `sending` ends after the last line or an overflow."""

    def __init__(self, socket: WebSocket) -> None:
        self._loop, self._lines = asyncio.get_running_loop(), asyncio.Queue[str | None]()
        self.overflow, self.sent = False, 0
        self.sending = asyncio.create_task(self._send(socket))

    def emit(self, line: str | None) -> None:
        """Append a line, from any thread; None: the last one was sent."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._add, line)

    def _add(self, line: str | None) -> None:
        if self._lines.qsize() < WAITING_LINES:
            self._lines.put_nowait(line)
        elif not self.sending.done():
            self.overflow = True
            self.sending.cancel()

    async def _send(self, socket: WebSocket) -> None:
        while (line := await self._lines.get()) is not None:
            await socket.send_text(line)
            self.sent += 1


# ---------------------------------------------------------------- parameters


def parse_job(query: QueryParams, service: Service) -> Job:
    """Parse the query of POST /v1/score."""
    _check(query, model=service.cards, name=None, channel=get_args(Channel), verdicts=BOOLEAN)
    model, channel = query.get("model", service.score_model), query.get("channel")
    return Job(_name(query, "upload"), model, cast(Channel | None, channel))


def parse_stream(query: QueryParams, service: Service) -> tuple[str, PcmFormat | None, bool]:
    """Parse the query of WS /v1/stream: name, format of raw samples (None: a container), live."""
    codings = (*TYPES, CONTAINER)
    _check(query, model=(service.stream_model,), name=None, rate=None, format=codings, live=BOOLEAN)
    rate, coding = query.get("rate", "16000"), query.get("format", "s16le")
    if not (rate.isdecimal() and len(rate) < 8 and MIN_RATE <= int(rate) <= MAX_RATE):
        raise ShrikeError(f"rate {rate!r}: expected {MIN_RATE:,} to {MAX_RATE:,} Hz")
    pcm = None if coding == CONTAINER else PcmFormat(coding, int(rate), 1)
    return _name(query, "stream"), pcm, query.get("live", "true") == "true"


def _check(query: QueryParams, **choices: Iterable[str] | None) -> None:
    """Refuse other names than those of `choices`, and other values; None: any."""
    for name, value in query.items():
        if name not in choices:
            raise ShrikeError(f"parameter {name!r}: expected {', '.join(choices)}{nearest(name, choices)}")
        if (known := choices[name]) is not None and value not in known:
            raise ShrikeError(f"{name} {value!r}: expected {' or '.join(known)}")


def _name(query: QueryParams, default: str) -> str:
    return printable(query.get("name", default))[:LONGEST_NAME] or default


def is_end(text: str) -> bool:
    """True for the message that ends a stream."""
    try:
        return bool(json.loads(text) == {"type": "end"})
    except (ValueError, RecursionError):
        return False


async def _refuse(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
