"""Serve verdicts over HTTP and WebSocket, with a page for a browser and metrics.

    python -m runtime.serve
    python -m runtime.serve --host 0.0.0.0 --token-file token --tls-cert cert.pem --tls-key key.pem
    python -m runtime.serve --config serve.toml
    python -m runtime.serve --backend triton --triton-url grpc://gpu:8001
    curl --data-binary @call.wav http://127.0.0.1:8765/v1/score

Serves this machine alone unless --host and a token are given. Ctrl-C ends it; open streams are closed.
"""

import asyncio
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runtime.engines.model_loader import MODELS
from runtime.serve.options import Options, check, check_certificate, is_local, read_token
from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError, say
from runtime.support.extras import require_package

if TYPE_CHECKING:
    from runtime.serve.app import Service
    from runtime.support.shutdown import Stop

CONNECTIONS = 1024  # at most, beyond those of streams and uploads
LARGEST_MESSAGE = 2**20  # bytes of a WebSocket message
RECEIVED = 65_536  # bytes that wait in a socket, 2 s of sound: more would only delay verdicts
SWITCH = 1e-3  # s until the thread that scores gives way to the one that receives
BACKLOG = 2048  # connections that wait to be accepted
GRACE = 5  # s for requests to end after Ctrl-C


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
    from runtime.engines.model_loader import find_model, model_name
    from runtime.serve.app import Service
    from runtime.serve.metrics import Metrics
    from runtime.serve.streams import LiveBatcher
    from runtime.serve.uploads import UploadPool, UploadSetup
    from runtime.session import VerdictOptions

    options = replace(options, token=None)  # the processes for uploads need not know it
    only = options.backend == "triton"  # the server needs to have no other models than those that the options name
    files = {} if only else {path.stem: str(path) for path in sorted(MODELS.glob("*.onnx"))}
    names = []
    for wanted in (options.model, options.stream_model):
        path = find_model(wanted)
        name = model_name(path, read_card(path))
        if name in files and find_model(files[name]) != path:
            raise ShrikeError(
                f"{path} and {find_model(files[name])}: expected two names in their cards, not {name} twice"
            )
        files[name] = wanted
        names.append(name)
    cards = {name: read_card(find_model(file)) for name, file in files.items()}
    metrics, setup = Metrics(), UploadSetup(files, options)
    model = setup.open(names[1])
    stack.callback(model.engine.close)
    verdicts = VerdictOptions(prior=options.prior, sure=options.sure)
    batcher = LiveBatcher(model, verdicts, metrics, options.max_seconds)
    stack.callback(batcher.close)
    pool = UploadPool(setup, names[0])
    for use, name in zip(("score", "stream"), names, strict=True):
        metrics.add_model(use, name, cards[name])
    workers = stack.enter_context(ThreadPoolExecutor(options.workers))
    stack.callback(pool.close)  # before the threads are joined, which wait for their files
    return Service(options, token, cards, names[0], names[1], batcher, pool, workers, metrics)


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


if __name__ == "__main__":
    run(main)
