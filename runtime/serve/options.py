"""Options of the service, and their checks.

options = parse(Options, "runtime.serve", __doc__)
check(options)
token = read_token(options)
"""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Optional

from runtime.engines.model_loader import DEFAULT, FILE_DEFAULT, Kind
from runtime.support.errors import ShrikeError

PORT = 8765
TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,256}")  # may stand in a header and in a WebSocket's subprotocol


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
