"""Networks on a Triton server: the same verdicts as here, and an answer in time whatever becomes of the server."""

import io
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

for package in ("tritonclient.grpc", "uvicorn", "httpx", "websockets", "onnx"):
    pytest.importorskip(package, reason="pip install '.[dev]'")

import httpx  # noqa: E402
import soundfile  # noqa: E402

from export.triton.repository import write_models  # noqa: E402
from runtime.engines import EngineAwayError, StateLostError  # noqa: E402
from runtime.engines.model_loader import find_model  # noqa: E402
from runtime.engines.onnx import open_onnx  # noqa: E402
from runtime.multi_stream import StreamBatcher  # noqa: E402
from runtime.serve import triton  # noqa: E402
from runtime.serve.triton import TritonEngine, load_triton  # noqa: E402
from runtime.support.errors import ShrikeError  # noqa: E402
from tests.runtime.made_steps import made_steps  # noqa: E402
from tests.runtime.serve.real_triton import RealTriton, binary, real_triton  # noqa: E402
from tests.runtime.serve.server import Line, Served, comparable, lines, pcm, serving  # noqa: E402
from tests.runtime.serve.triton_server import MadeTriton, made_triton  # noqa: E402
from tests.runtime.speech import speech  # noqa: E402

RATE = 16_000


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("repository")
    list(write_models(["edge", "f0"], out, 16, 64))
    return out


@pytest.fixture
def server(repository: Path) -> Iterator[MadeTriton]:
    with made_triton(repository) as found:
        yield found


@pytest.fixture(params=["made", "real"])
def either(request: pytest.FixtureRequest, repository: Path) -> Iterator[MadeTriton | RealTriton]:
    if request.param == "real" and binary() is None:
        pytest.skip("pip install --no-deps nvidia-pytriton, and gcc")
    made = request.param == "made"
    with (
        tempfile.TemporaryDirectory() as folder,  # a socket's path is short
        made_triton(repository) if made else real_triton(repository, Path(folder)) as found,
    ):
        yield found


def scores(engine: object, frontend: object, sounds: list[np.ndarray]) -> list[list[float]]:
    """Scores of streams whose sound comes in pieces."""
    batcher = StreamBatcher(engine, frontend)  # type: ignore[arg-type]
    streams = [batcher.create_stream() for _ in sounds]
    for start in range(0, len(sounds[0]), 1600):
        for stream, sound in zip(streams, sounds, strict=True):
            stream.accept_waveform(sound[start : start + 1600])
        batcher.decode_all(streams)
    found = [[score.value for score in batcher.get_result(stream)] for stream in streams]
    for stream in streams:
        batcher.remove(stream)
    return found


@pytest.mark.parametrize("name", ["edge", "f0"])
def test_streams_get_the_scores_of_a_local_engine(either: MadeTriton | RealTriton, name: str) -> None:
    sounds = [speech(6, seed).astype(np.float32) for seed in range(5)]
    local = open_onnx(find_model(name))
    remote = load_triton(either.url, name, find_model(name))
    wanted = scores(local, local.card.frontend, sounds)
    found = scores(remote.engine, remote.card.frontend, sounds)
    remote.engine.close()
    assert len(found[0]) > 20
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    if isinstance(either, RealTriton):
        assert max(either.batches) > 1  # dynamic batches, with states
    elif name == "edge":
        assert either.models[name].largest == len(sounds)  # a sequence each
        assert not either.models[name].sequences  # all of which were ended


def test_a_restarted_server_loses_states_and_the_streams_start_anew(either: MadeTriton | RealTriton) -> None:
    engine = load_triton(either.url, "edge", find_model("edge")).engine
    store = engine.open_store()  # type: ignore[attr-defined]
    row, new = store.add(), np.zeros((60, 16), np.float32)
    assert isinstance(store.step([row], [True], [new])[0], np.ndarray)
    either.stop()
    restart = threading.Timer(1, either.start)
    restart.start()
    assert isinstance(store.step([row], [False], [new])[0], StateLostError)
    restart.join()
    assert isinstance(store.step([row], [True], [new])[0], np.ndarray)
    if isinstance(either, MadeTriton):
        either.models["edge"].sequences.clear()  # as after its idle time
        assert isinstance(store.step([row], [False], [new])[0], StateLostError)
    engine.close()


@pytest.mark.skipif(binary() is None, reason="pip install --no-deps nvidia-pytriton, and gcc")
def test_more_streams_than_the_repository_allows_are_errors_of_their_own(tmp_path: Path) -> None:
    list(write_models(["edge"], tmp_path, 16, 2))
    with tempfile.TemporaryDirectory() as folder, real_triton(tmp_path, Path(folder)) as server:
        engine = load_triton(server.url, "edge", find_model("edge")).engine
        store = engine.open_store()  # type: ignore[attr-defined]
        rows, new = [store.add() for _ in range(3)], np.zeros((60, 16), np.float32)
        found = store.step(rows, [True] * 3, [new] * 3)
        served = [row for row, one in zip(rows, found, strict=True) if isinstance(one, np.ndarray)]
        assert len(served) == 2 and not any(isinstance(one, EngineAwayError) for one in found)
        store.remove(served[0])
        (row,) = {*rows} - {*served}
        assert isinstance(store.step([row, served[1]], [True, False], [new] * 2)[0], np.ndarray)  # there is room again
        engine.close()


def test_a_server_that_stays_away_is_an_error_in_time(server: MadeTriton, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton, "PATIENCE", 0.5)
    window = np.zeros((1, 1, 45, 600), np.float32)
    engine = load_triton(server.url, "f0", find_model("f0")).engine
    engine(window)
    server.stop()
    began = time.monotonic()
    with pytest.raises(EngineAwayError):
        engine(window)
    assert time.monotonic() - began < 20 and not engine.available  # type: ignore[attr-defined]
    server.start()
    monkeypatch.setattr(triton, "PATIENCE", 30.0)
    assert engine(window).shape == (1, 2)  # sent again
    assert engine.available  # type: ignore[attr-defined]
    engine.close()


def test_a_silent_server_delays_a_step_no_longer_than_its_limit(
    server: MadeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton, "STEP", 0.3)
    engine = load_triton(server.url, "edge", find_model("edge")).engine
    store = engine.open_store()  # type: ignore[attr-defined]
    row, new = store.add(), np.zeros((60, 16), np.float32)
    server.answering.clear()
    (found,) = store.step([row], [True], [new], 0.3)
    assert isinstance(found, ShrikeError) and not isinstance(found, StateLostError)
    server.answering.set()
    assert isinstance(store.step([row], [True], [new])[0], np.ndarray)
    engine.close()


@pytest.mark.parametrize("url", ["gpu:8001", "http://gpu:8001", "grpc://gpu", "grpc://", "grpc://a b:1"])
def test_addresses_of_another_form_are_refused(url: str) -> None:
    with pytest.raises(ShrikeError):
        load_triton(url, "edge", find_model("edge"))


def test_a_model_that_is_not_there_or_not_this_one_is_refused(server: MadeTriton, tmp_path: Path) -> None:
    with pytest.raises(ShrikeError):
        load_triton(server.url, "accurate", find_model("accurate"))
    with pytest.raises(ShrikeError):
        load_triton(server.url, "edge", find_model("f0"))  # other shapes
    with pytest.raises(ShrikeError):
        load_triton(server.url, "f0", made_steps(tmp_path))
    card = load_triton(server.url, "f0", find_model("f0")).card
    with pytest.raises(ShrikeError):
        TritonEngine(server.url, "f0", replace(card, files={"f0.onnx": "0" * 64}))  # another file of the same shapes


# ---------------------------------------------------------------- the service


@pytest.fixture
def served(either: MadeTriton | RealTriton) -> Iterator[Served]:
    with serving("--backend", "triton", "--triton-url", either.url, "--model", "f0") as found:
        yield found


def answers(service: Served, sound: bytes, file: bytes) -> list[Line]:
    """Lines of a stream and the summary of an upload, without the name of the engine."""
    with service.stream("live=false") as socket:
        for start in range(0, len(sound), 3200):
            socket.send(sound[start : start + 3200])
        socket.send('{"type": "end"}')
        found = lines(socket)
    found.append(httpx.post(f"{service.url}/v1/score", content=file, timeout=120).json())
    return [comparable({name: value for name, value in line.items() if name != "engine"}) for line in found]


def test_the_service_gives_the_verdicts_of_a_local_one(served: Served) -> None:
    sound, box = pcm(speech(6)), io.BytesIO()
    soundfile.write(box, np.frombuffer(sound, "<i2"), RATE, format="WAV")
    found = answers(served, sound, box.getvalue())
    with serving("--model", "f0") as local:
        assert answers(local, sound, box.getvalue()) == found
    assert len(found) > 20


def test_a_stream_survives_a_restart_of_the_server(either: MadeTriton | RealTriton, served: Served) -> None:
    sound = pcm(speech(20))
    with served.stream("name=call") as socket:
        found: list[Line] = []
        reader = threading.Thread(target=lambda: found.extend(lines(socket)))
        reader.start()
        for start in range(0, len(sound), 6400):
            if start == 6400 * 30:
                either.stop()
            if start == 6400 * 45:
                assert httpx.get(f"{served.url}/readyz").status_code == 503
                assert httpx.post(f"{served.url}/v1/score", content=b"").status_code == 503
                with served.stream() as other:
                    assert lines(other)[-1]["type"] == "error" and other.close_code == 1013
                either.start()
            socket.send(sound[start : start + 6400])
            time.sleep(0.1)
        socket.send('{"type": "end"}')
        reader.join(60)
    kinds = [line["type"] for line in found]
    assert kinds[-1] == "summary" and "gap" in kinds and "error" not in kinds
    gap = kinds.index("gap")
    assert "verdict" in kinds[:gap] and "verdict" in kinds[gap:]
    assert sum(line["lost"] for line in found if line["type"] == "gap") > 0
    assert httpx.get(f"{served.url}/readyz").status_code == 200
