"""Serve verdicts over HTTP and WebSocket, with a page for a browser and metrics.

    python -m runtime.serve
    python -m runtime.serve --host 0.0.0.0 --token-file token --tls-cert cert.pem --tls-key key.pem
    python -m runtime.serve --config serve.toml
    python -m runtime.serve --backend triton --triton-url grpc://gpu:8001
    curl --data-binary @call.wav http://127.0.0.1:8765/v1/score

Serves this machine alone unless --host and a token are given. Ctrl-C ends it; open streams are closed.
"""

import asyncio
import ipaddress
import re
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional

from runtime.engines.model_loader import DEFAULT, FILE_DEFAULT, MODELS, Kind
from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError
from runtime.support.extras import require_package

if TYPE_CHECKING:
    from runtime.serve.app import Service
    from runtime.support.shutdown import Stop

PORT = 8765
TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,256}")  # may stand in a header and in a WebSocket's subprotocol
CONNECTIONS = 1024  # at most, beyond those of streams and uploads
LARGEST_MESSAGE = 2**20  # bytes of a WebSocket message
RECEIVED = 65_536  # bytes that wait in a socket, 2 s of sound: more would only delay verdicts
SWITCH = 1e-3  # s until the thread that scores gives way to the one that receives
BACKLOG = 2048  # connections that wait to be accepted
GRACE = 5  # s for requests to end after Ctrl-C


@dataclass(frozen=True)
class Options:
    """Serve verdicts."""

    host: str = "127.0.0.1"
    """Address to listen on; any other than this machine's needs a token."""
    port: int = PORT
    """Port to listen on; 0: any free one."""
    token: Optional[str] = None  # noqa: UP045 - runtime.support.command gives the reason
    """Token that callers send; other users of this machine see it, --token-file hides it."""
    token_file: Optional[Path] = None  # noqa: UP045
    """File with the token."""
    tls_cert: Optional[Path] = None  # noqa: UP045
    """Certificate chain (PEM), for HTTPS: browsers give a microphone only to HTTPS or localhost."""
    tls_key: Optional[Path] = None  # noqa: UP045
    """Private key of the certificate (PEM)."""
    model: str = FILE_DEFAULT
    """Model of uploads: accurate, edge, f0, or a path to model.onnx or model.engine with its card beside it."""
    stream_model: str = DEFAULT
    """Model of streams, in the same forms."""
    engine: Kind = "auto"
    """Backend. auto: TensorRT if an engine beside the model runs on this machine, else ONNX Runtime."""
    backend: Literal["local", "triton"] = "local"
    """Where the networks are computed; triton: on the server of --triton-url, the rest here."""
    triton_url: str = ""
    """Triton server, as in grpc://gpu:8001, or grpcs:// with TLS; shrike export-triton writes its repository."""
    provider: str = "cpu"
    """Execution provider of ONNX Runtime: cpu, cuda, tensorrt, openvino, coreml, xnnpack, dml, if installed."""
    threads: int = 1
    """CPU threads of a model; 0: ONNX Runtime's choice."""
    prior: float = 0.5
    """Share of fake speech that you expect; P(spoof) follows from it and from the likelihood ratio."""
    sure: Optional[float] = None  # noqa: UP045
    """Operating point: P(spoof) from which the state becomes spoof, bonafide at 1 - P; default: the card's, and 0.3."""
    workers: int = 1
    """Processes that score uploads, each with its own models."""
    max_uploads: int = 8
    """Uploads at once, waiting ones included; further ones are refused."""
    max_mb: int = 100
    """Largest upload in MB; uploads are held in memory."""
    max_seconds: float = 7200.0
    """Longest sound of an upload or a stream in seconds."""
    max_streams: int = 64
    """Streams at once; further ones are refused (docs/serve.md: how many a core bears)."""
    idle: float = 60.0
    """Seconds without a message after which a stream ends."""
    config: Optional[Path] = None  # noqa: UP045
    """TOML file of these options; the command line overrides it."""


def check(options: Options) -> None:
    """Validate options before opening anything."""
    for name, least in (("workers", 1), ("max_uploads", 1), ("max_mb", 1), ("max_streams", 0), ("port", 0)):
        if getattr(options, name) < least:
            raise ShrikeError(f"--{name.replace('_', '-')} {getattr(options, name)}: expected {least} or more")
    for name in ("max_seconds", "idle"):
        if not 1 <= getattr(options, name) <= 1e9:
            raise ShrikeError(f"--{name.replace('_', '-')} {getattr(options, name)}: expected 1 second or more")
    if options.port > 65_535:
        raise ShrikeError(f"--port {options.port}: expected at most 65535")
    if options.token and options.token_file:
        raise ShrikeError("--token and --token-file: expected one of them")
    if (options.backend == "triton") != bool(options.triton_url):
        raise ShrikeError("--backend triton and --triton-url grpc://HOST:8001: expected both or none")
    if options.triton_url and (options.engine, options.provider, options.threads) != ("auto", "cpu", 1):
        raise ShrikeError("--engine, --provider and --threads have no effect with --backend triton: leave them out")
    if (options.tls_cert is None) != (options.tls_key is None):
        raise ShrikeError("--tls-cert and --tls-key: expected both or none")
    if not (options.token or options.token_file or is_local(options.host)):
        raise ShrikeError(
            f"--host {options.host}: expected --token-file with it, because other machines could call; to make one: "
            'python -c "import secrets; print(secrets.token_urlsafe(32))" > token'
        )


def is_local(host: str) -> bool:
    """True for addresses that only this machine can reach."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(options: Options) -> str | None:
    """Return the token, if there is one."""
    token, where = options.token, "--token"
    if options.token_file:
        where = f"--token-file {options.token_file}"
        try:
            token = options.token_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ShrikeError(f"{where}: cannot be read ({getattr(error, 'strerror', None) or 'no text'})") from error
    if token is not None and not TOKEN.fullmatch(token):
        raise ShrikeError(f"{where}: expected 16 to 256 letters, digits and . _ ~ - in the token")
    return token


def check_certificate(options: Options) -> None:
    """Try to load certificate and key."""
    import ssl

    if options.tls_cert and options.tls_key:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options.tls_cert, options.tls_key)
        except OSError as error:  # ssl.SSLError is one
            files = f"--tls-cert {options.tls_cert} --tls-key {options.tls_key}"
            raise ShrikeError(f"{files}: expected a certificate and its key ({error.strerror or error})") from error


def main() -> int:
    options = parse(Options, "runtime.serve", __doc__)
    check(options)
    token = read_token(options)
    check_certificate(options)
    triton = ("tritonclient.grpc",) if options.backend == "triton" else ()
    for package in ("uvicorn", "starlette", "prometheus_client", "websockets", *triton):
        require_package(package)
    from runtime.support.shutdown import Stop

    sys.setswitchinterval(SWITCH)
    with ExitStack() as stack:
        stop = stack.enter_context(Stop())
        listener = stack.enter_context(closing(listen(options.host, options.port)))
        service = open_service(options, token, stack)
        listener.listen(BACKLOG)
        scheme, port = "https" if options.tls_cert else "http", listener.getsockname()[1]
        host = f"[{options.host}]" if ":" in options.host else options.host
        say(f"scores uploads with {service.score_model}, streams with {service.stream_model}")
        say(f"serving on {scheme}://{host}:{port}" + (" for this machine alone" if is_local(options.host) else ""))
        if not (options.tls_cert or is_local(options.host)):
            say("without --tls-cert the network can read token and sound, and browsers give no microphone")
        asyncio.run(serve(options, service, listener, stop))
        return 1 if service.batcher.broken else 0


def listen(host: str, port: int) -> socket.socket:
    """Bind before models are loaded: a port in use is an error at once. Listening starts when they are."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED)
        listener.bind(address)
    except OSError as error:
        raise ShrikeError(f"--host {host} --port {port}: {(error.strerror or str(error)).lower()}") from error
    return listener


def open_service(options: Options, token: str | None, stack: ExitStack) -> "Service":
    """Load the models and start the batcher and the processes for uploads. Engines are opened here and there alone."""
    from runtime.card.model_card import read_card
    from runtime.engines.model_loader import find_model
    from runtime.serve.app import Limits, Service
    from runtime.serve.guard import Access
    from runtime.serve.metrics import Metrics
    from runtime.serve.streams import LiveBatcher
    from runtime.serve.uploads import UploadLimits, UploadPool, UploadSetup, open_model
    from runtime.session import VerdictOptions

    metrics = Metrics()
    only = options.backend == "triton"  # the server needs to have no other models than those that the options name
    files = {} if only else {path.stem: str(path) for path in sorted(MODELS.glob("*.onnx"))}
    names = []
    for wanted in (options.model, options.stream_model):
        name = read_card(find_model(wanted)).name if Path(wanted).suffix else wanted
        files[name] = wanted
        names.append(name)
    cards = {name: read_card(find_model(file)) for name, file in files.items()}
    limits, prior, sure = UploadLimits(options.max_seconds), options.prior, options.sure
    setup = UploadSetup(
        files, options.engine, options.provider, options.threads, prior, sure, limits, options.triton_url
    )
    model = open_model(setup, names[1])
    stack.callback(model.engine.close)
    batcher = LiveBatcher(model, VerdictOptions(prior=prior, sure=sure), metrics, options.max_seconds)
    stack.callback(batcher.close)
    pool = UploadPool(setup, names[0], options.workers)
    stack.callback(pool.close)
    for use, name in zip(("score", "stream"), names, strict=True):
        metrics.add_model(use, name, cards[name])
    return Service(
        cards=cards,
        score_model=names[0],
        stream_model=names[1],
        batcher=batcher,
        pool=pool,
        workers=stack.enter_context(ThreadPoolExecutor(options.workers)),
        metrics=metrics,
        limits=Limits(options.max_mb * 1_000_000, options.max_uploads, options.max_streams, options.idle),
        access=Access(token),
    )


async def serve(options: Options, service: "Service", listener: socket.socket, stop: "Stop") -> None:
    """Run the server until the request to stop."""
    import uvicorn

    from runtime.serve.app import build_app
    from runtime.serve.guard import limited

    class Server(uvicorn.Server):
        """A server whose signals runtime.support.shutdown handles."""

        def capture_signals(self) -> AbstractContextManager[Any]:  # type: ignore[override]
            return nullcontext()

    config = uvicorn.Config(
        build_app(service),
        http=limited(CONNECTIONS + options.max_streams + options.max_uploads),
        ws="websockets-sansio",
        ws_max_size=LARGEST_MESSAGE,
        ws_ping_interval=None,  # a stream without messages ends after --idle
        ws_per_message_deflate=False,  # sound does not shrink, and a bomb might grow
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
        ssl_certfile=options.tls_cert,
        ssl_keyfile=options.tls_key,
    )
    server = Server(config)

    def end() -> None:
        asyncio.get_running_loop().remove_reader(stop.descriptor)
        server.should_exit = True

    asyncio.get_running_loop().add_reader(stop.descriptor, end)
    await server.serve([listener])


def say(sentence: str) -> None:
    """Write a line to stderr."""
    print(sentence, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run(main)
