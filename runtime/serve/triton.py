"""Networks on a Triton server: features, voice activity and verdicts stay here, the steps are computed there.

    model = load_triton("grpc://gpu:8001", "edge", find_model("edge"))    # checks server, model and shapes
    logits = model.engine(windows)                                        # of a windowed model
    store = model.engine.open_store()                                     # of a streaming model
    row = store.add()
    found = store.step([row], [True], [features])                         # logits, or why there are none

Each stream is a sequence whose states Triton holds. The requests of many streams are sent together, so that Triton
batches them. While the server is away, calls wait for it, and end with EngineAwayError after PATIENCE. When it is back,
windows are sent again; a sequence has lost its state: StateLostError.
"""

import re
import secrets
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.card.model_card import ModelCard, read_card
from runtime.engines import EngineAwayError, StateLostError, check_windows
from runtime.engines.model_loader import LoadedModel
from runtime.support.errors import ShrikeError, say

ADDRESS = re.compile(r"grpcs?://(\[[0-9A-Fa-f:.]+\]|[^\s/:]+):\d{1,5}/?")
ONNX_SHA256 = "shrike_onnx_sha256"  # parameter of a model's configuration
OPENING = 5.0  # s in which a server must answer at the start
FIRST = 60.0  # s of a model's first run
STEP, WINDOW = 2.0, 30.0  # s in which a step or a window must be computed
PATIENCE = 30.0  # s to wait for a server that is away
PAUSES = 0.1, 2.0  # s between two attempts to reach it: the first, the longest
LONGEST = 200  # characters of a server's message
NO_STATE = "must specify the START flag"  # Triton's message for a sequence that it does not hold

Logits = NDArray[np.float32]


def onnx_sha256(card: ModelCard) -> str:
    """Return the sha256 of the card's ONNX file, or of the one from which its engine was built."""
    if card.tensorrt:
        return card.tensorrt.onnx_sha256
    return next((digest for name, digest in card.files.items() if name.endswith(".onnx")), "")


def load_triton(url: str, name: str, path: Path) -> LoadedModel:
    """Open the model `name` of a server; the card is that of the local file."""
    card = read_card(path)
    return LoadedModel(TritonEngine(url, name, card), card, "Triton", "as requested", name)


class TritonEngine:
    """One model of a server. Not thread-safe, but for `available` and `close`."""

    batch = -1  # any number: Triton splits it
    most = 256  # streams in one call: all wait for one answer

    def __init__(self, url: str, name: str, card: ModelCard) -> None:
        self.name, self.card, self.state = card.name, card, card.state
        self.precision: str = card.precision
        self._link = _Link(url, name, card)
        try:
            self._link.open()
            self._link.check_config()
            if card.state:  # a first run, for which Triton's own samples do not suit
                store = self.open_store()
                row = store.add()
                (found,) = store.step([row], [True], [np.zeros(card.input.shape[2:], np.float32)], FIRST)
                store.remove(row)
                if isinstance(found, ShrikeError):
                    raise found
        except BaseException:
            self.close()
            raise

    @property
    def available(self) -> bool:
        """False while the server is away."""
        return self._link.available

    def __call__(self, features: NDArray[np.float32]) -> Logits:
        """Compute logits (n, 2) of raw log power (n, 1, bands, frames): a request for each window."""
        check_windows(self.card, features)
        found = self._link.infer([self._link.request(window) for window in features], WINDOW, again=True)
        if error := next((answer for answer in found if isinstance(answer, ShrikeError)), None):
            raise error
        return np.stack(found)

    def open_store(self, most: int = 0) -> "TritonSequences":
        """Return the sequences of a streaming model."""
        return TritonSequences(self._link)

    def close(self) -> None:
        self._link.close()


class TritonSequences:
    """One sequence for each stream; the interface of runtime.engines.state_store."""

    def __init__(self, link: "_Link") -> None:
        self._link = link
        self._sequences: dict[int, int] = {}  # row -> Triton's correlation id
        self._rows = 0

    def add(self) -> int:
        """Return a row for a new stream; its first step must be fresh."""
        self._rows += 1
        return self._rows

    def remove(self, row: int) -> None:
        """End a stream's sequence."""
        if sequence := self._sequences.pop(row, 0):
            nothing = np.zeros(self._link.card.input.shape[1:], np.float32)  # without an input it would be refused
            self._link.send(self._link.request(nothing, sequence_id=sequence, sequence_end=True))

    def step(
        self,
        rows: list[int],
        fresh: Sequence[bool],
        features: Sequence[NDArray[np.float32]],
        seconds: float = STEP,
    ) -> list[Logits | ShrikeError]:
        """Compute a step of the streams in `rows`: their features (bands, frames) -> logits (2,) or an error each."""
        requests = []
        for row, is_fresh, new in zip(rows, fresh, features, strict=True):
            if is_fresh:
                self.remove(row)
                self._sequences[row] = secrets.randbelow(2**62) + 1
            if row not in self._sequences:
                raise ValueError(f"row {row} has no state: its first step must be fresh")
            start = bool(is_fresh)
            requests.append(self._link.request(new, sequence_id=self._sequences[row], sequence_start=start))
        found = self._link.infer(requests, seconds)
        for row, answer in zip(rows, found, strict=True):
            if isinstance(answer, EngineAwayError):
                del self._sequences[row]
            elif isinstance(answer, ShrikeError):
                self.remove(row)
        return found


class _Link:
    """Requests to one model of one server, and the search for a server that is away."""

    def __init__(self, url: str, model: str, card: ModelCard) -> None:
        import grpc
        from tritonclient.grpc import service_pb2, service_pb2_grpc

        if not ADDRESS.fullmatch(url):
            raise ShrikeError(f"--triton-url {url}: expected grpc://HOST:PORT, or grpcs:// with TLS; Triton's is 8001")
        self.url, self.model, self.card, self._grpc, self._messages = url, model, card, grpc, service_pb2
        options = [
            ("grpc.max_receive_message_length", 2**24),
            ("grpc.initial_reconnect_backoff_ms", round(1e3 * PAUSES[0])),
            ("grpc.min_reconnect_backoff_ms", round(1e3 * PAUSES[0])),
            ("grpc.max_reconnect_backoff_ms", round(1e3 * PAUSES[1])),
            ("grpc.use_local_subchannel_pool", 1),  # a back-off of its own
        ]
        scheme, _, target = url.rstrip("/").partition("://")
        if scheme == "grpcs":
            self._channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
        else:
            self._channel = grpc.insecure_channel(target, options)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._back, self._closed = threading.Event(), threading.Event()
        self._back.set()
        self._unanswered: set[Any] = set()

    @property
    def available(self) -> bool:
        return self._back.is_set()

    def open(self) -> None:
        """Require a server that answers and has the model ready."""
        try:
            self._stub.ServerLive(self._messages.ServerLiveRequest(), timeout=OPENING)
        except self._grpc.RpcError as error:
            raise EngineAwayError(f"--triton-url {self.url}: no Triton server answers ({_details(error)})") from error
        if not self.ready():
            raise ShrikeError(
                f"--triton-url {self.url}: the model {self.model!r} is not ready there; write it into the server's "
                "repository with shrike export-triton, or name another with --model and --stream-model"
            )

    def ready(self) -> bool:
        """True if the server answers and has the model ready."""
        try:
            request = self._messages.ModelReadyRequest(name=self.model)
            return bool(self._stub.ModelReady(request, timeout=OPENING).ready)
        except (self._grpc.RpcError, ValueError):  # ValueError: the channel was closed meanwhile
            return False

    def check_config(self) -> None:
        """Compare the server's model with the card: tensors, states, and the file that it was made from."""
        from tritonclient.grpc import model_config_pb2 as pb

        where = f"--triton-url {self.url}: the model {self.model!r} there"
        try:
            request = self._messages.ModelConfigRequest(name=self.model)
            config = self._stub.ModelConfig(request, timeout=OPENING).config
        except self._grpc.RpcError as error:
            raise ShrikeError(f"{where} has no configuration ({_details(error)})") from error
        card, types = self.card, {"float32": pb.TYPE_FP32, "uint8": pb.TYPE_UINT8}
        skipped = 1 if config.max_batch_size else 0
        tensors, states = (card.input, card.output), card.state.tensors if card.state else ()
        sizes = [[max(1, tensor.shape[0]), *tensor.shape[1:]][skipped:] for tensor in tensors]
        wanted = [(tensor.name, types["float32"], size) for tensor, size in zip(tensors, sizes, strict=True)]
        wanted += [(f"{state.input} {state.output}", types[state.type], list(state.shape)) for state in states]
        found = [(one.name, one.data_type, list(one.dims)) for one in (*config.input, *config.output)]
        held = config.sequence_batching.state
        found += [(f"{one.input_name} {one.output_name}", one.data_type, list(one.dims)) for one in held]
        if sorted(found) != sorted(wanted):
            odd = next((one for one in wanted + found if (one in wanted) != (one in found)), wanted[0])
            verb = "lacks" if odd in wanted else "has"
            raise ShrikeError(f"{where} {verb} {odd[0]!a} {odd[2]}, unlike {card.name}'s card: export it again")
        digest = config.parameters[ONNX_SHA256].string_value if ONNX_SHA256 in config.parameters else ""
        if digest and digest != onnx_sha256(card):
            raise ShrikeError(f"{where} was made from another file than the model of this name here: export it again")

    def request(self, window: NDArray[np.float32], **parameters: int | bool) -> Any:
        """Build the request of one window or step (1, bands, frames)."""
        request = self._messages.ModelInferRequest(model_name=self.model, raw_input_contents=[window.tobytes()])
        request.inputs.add(name=self.card.input.name, datatype="FP32", shape=[1, *self.card.input.shape[1:]])
        request.outputs.add(name=self.card.output.name)
        for name, value in parameters.items():
            setattr(request.parameters[name], "bool_param" if isinstance(value, bool) else "int64_param", value)
        return request

    def infer(self, requests: list[Any], seconds: float, again: bool = False) -> list[Any]:
        """Send all requests; return logits (2,) or an error of each. `again`: repeat those that met no server."""
        until = time.monotonic() + PATIENCE
        found = self._infer(requests, seconds)
        while missed := [place for place, answer in enumerate(found) if type(answer) is EngineAwayError]:
            if not self._back.wait(max(0.0, until - time.monotonic())) or self._closed.is_set():
                return found  # the server stays away
            if not again:
                lost = StateLostError("Triton was away, and lost the state of this stream: send it again")
                return [lost if type(answer) is EngineAwayError else answer for answer in found]
            for place, answer in zip(missed, self._infer([requests[place] for place in missed], seconds), strict=True):
                found[place] = answer
        return found

    def _infer(self, requests: list[Any], seconds: float) -> list[Any]:
        try:
            calls = [self._stub.ModelInfer.future(request, timeout=seconds) for request in requests]
        except ValueError as error:  # the channel is closed
            raise EngineAwayError("the link to Triton is closed") from error
        found = []
        for call in calls:
            try:
                found.append(self._logits(call.result()))
            except (self._grpc.RpcError, self._grpc.FutureCancelledError) as error:
                found.append(self._explain(error, seconds))
        return found

    def _logits(self, answer: Any) -> Logits | ShrikeError:
        logits, parts = self.card.output.name, answer.raw_output_contents
        fits = [(one.name, one.datatype, list(one.shape)) for one in answer.outputs] == [(logits, "FP32", [1, 2])]
        if not fits or [len(part) for part in parts] != [8]:
            return ShrikeError(f"{self.card.name}: Triton's output is not {logits} (1, 2) of FP32: export it again")
        return np.frombuffer(parts[0], "<f4")

    def _explain(self, error: Any, seconds: float) -> ShrikeError:
        """Return the error of one request, for clients, who need not know the server's address. A server that is away
        is searched from now on."""
        codes, code = self._grpc.StatusCode, error.code() if hasattr(error, "code") else None
        details = _details(error)
        if NO_STATE in details:
            return StateLostError("Triton does not hold the state of this stream any more: send it again")
        if code == codes.DEADLINE_EXCEEDED and self.available and self.ready():
            return ShrikeError(
                f"Triton did not compute {self.model} within {seconds:g} s: it is overloaded, or more streams are open "
                "than --streams of its export"
            )
        if code in (codes.INVALID_ARGUMENT, codes.UNIMPLEMENTED, codes.INTERNAL, codes.RESOURCE_EXHAUSTED):
            say(f"Triton at {self.url} cannot compute {self.model}: {details}")
            return ShrikeError(f"Triton cannot compute {self.model}: its operator finds the reason in the log")
        if self._back.is_set() and not self._closed.is_set():
            self._back.clear()
            say(f"Triton at {self.url} is away: {details}")
            threading.Thread(target=self._search, name="triton", daemon=True).start()
        return EngineAwayError("Triton does not answer: try again later")

    def _search(self) -> None:
        pause, longest = PAUSES
        while not self._closed.wait(pause) and not self.ready():
            pause = min(2 * pause, longest)
        if not self._closed.is_set():
            say(f"Triton at {self.url} is back")
        self._back.set()

    def send(self, request: Any) -> None:
        """Send a request whose answer nobody needs."""
        if self.available and not self._closed.is_set():
            call = self._stub.ModelInfer.future(request, timeout=STEP)
            self._unanswered.add(call)
            call.add_done_callback(self._unanswered.discard)

    def close(self) -> None:
        """Close the channel once what was sent has been answered."""
        if not self._closed.is_set():
            until = time.monotonic() + 1
            while self._unanswered and self.available and time.monotonic() < until:
                time.sleep(0.01)
            self._closed.set()
            self._back.set()
            self._channel.close()


def _details(error: Any) -> str:
    """Return the first line of a server's message."""
    text = error.details() if hasattr(error, "details") else ""
    return ((text or type(error).__name__).splitlines() or [""])[0][:LONGEST]
