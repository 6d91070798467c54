"""The service with real clients: the same verdicts as the commands, whatever the others do."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from socket import create_connection
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("uvicorn", reason="pip install '.[serve]'")
httpx = pytest.importorskip("httpx", reason="pip install '.[dev]'")
pytest.importorskip("websockets", reason="pip install '.[serve]'")

from websockets.exceptions import InvalidStatus  # noqa: E402

from tests.runtime.made_model import made_model  # noqa: E402
from tests.runtime.serve.server import Served, comparable, lines, pcm, serving  # noqa: E402
from tests.runtime.speech import speech  # noqa: E402
from tests.test_commands import ENVIRONMENT  # noqa: E402
from tests.test_house import ROOT  # noqa: E402

TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving("--max-streams", "6", "--max-mb", "2", "--idle", "20", "--max-seconds", "60") as found:
        yield found


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "call.wav"
    soundfile.write(path, np.frombuffer(pcm(speech(9)), "<i2"), 16_000)
    return path


def command(module: str, *words: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, words)],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    return done.stdout


# ---------------------------------------------------------------- files


def test_an_upload_gets_the_row_of_a_scan(served: Served, call: Path, tmp_path: Path) -> None:
    command("runtime.scan", call, "--json", tmp_path / "row.jsonl")
    row = json.loads((tmp_path / "row.jsonl").read_text())
    found = httpx.post(f"{served.url}/v1/score?name=call.wav", content=call.read_bytes(), timeout=120).json()
    assert found["source"] == "call.wav" and found["type"] == "summary"
    for name in ("state", "voiced", "seconds", "channel"):
        assert found[name] == row[name]
    assert round(found["p_spoof"], 4) == row["p_spoof"] and round(found["llr"], 4) == row["llr"]


def test_verdicts_of_an_upload_are_lines_of_the_same_form(served: Served, call: Path) -> None:
    answer = httpx.post(f"{served.url}/v1/score?verdicts=true&model=f0", content=call.read_bytes(), timeout=120)
    found = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["type"] for line in found][:: len(found) - 1] == ["start", "summary"]
    assert found[0]["band"][1] < 1000 and all(line["v"] == 2 for line in found)  # f0's


def test_two_channels_are_judged_one_by_one(served: Served, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "two.flac", np.stack([speech(6), speech(6, 1)], 1), 16_000)
    content = (tmp_path / "two.flac").read_bytes()
    answer = httpx.post(f"{served.url}/v1/score?verdicts=true", content=content, timeout=120)
    found = [json.loads(line) for line in answer.text.splitlines()]
    assert {line.get("channel") for line in found} == {"left", "right"} and found[-1]["type"] == "file"


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
def test_a_container_is_decoded_and_no_path_of_the_server_comes_back(served: Served, call: Path) -> None:
    m4a = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", call, "-c:a", "aac", "-f", "ipod", "-movflags", "frag_keyframe", "pipe:1"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    good = httpx.post(f"{served.url}/v1/score", content=m4a, timeout=120)
    assert good.status_code == 200 and good.json()["seconds"] == pytest.approx(9, abs=0.2)
    for content in (
        b"",
        b"no sound at all",
        m4a[:200],
        b"RIFF\xff\xff\xff\xffWAVE" + bytes(3000),
        b"ID3" + bytes(9000),
    ):
        bad = httpx.post(f"{served.url}/v1/score?name=x.m4a", content=content, timeout=120)
        assert bad.status_code == 422 and "/proc" not in bad.text and "\n" not in bad.json()["error"], bad.text


@pytest.mark.parametrize("query", ["model=../../etc", "model=wid", "channel=up", "verdicts=1", "x=x"])
def test_a_wrong_parameter_is_one_line(served: Served, query: str) -> None:
    answer = httpx.post(f"{served.url}/v1/score?{query}", content=b"x", timeout=60)
    assert answer.status_code == 400 and query.partition("=")[2] in answer.json()["error"]


def test_a_large_upload_is_refused_before_it_has_come(served: Served) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(65_536)

    with pytest.raises(httpx.HTTPError):  # the service closes the connection
        answer = httpx.post(f"{served.url}/v1/score", content=endless(), timeout=60)
        assert answer.status_code == 413
        raise httpx.HTTPError("refused in time")
    stated = answer_to(served, b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2147483648\r\n\r\n")
    assert stated.startswith(b"HTTP/1.1 413")


def answer_to(served: Served, request: bytes) -> bytes:
    """The answer to a request that no client library would send."""
    with create_connection(("127.0.0.1", int(served.url.rpartition(":")[2])), timeout=60) as client:
        client.sendall(request)
        return client.recv(65_536)


def test_a_file_of_too_much_sound_is_refused(served: Served, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.flac", np.zeros(16_000 * 61, np.int16), 16_000)
    answer = httpx.post(f"{served.url}/v1/score", content=(tmp_path / "long.flac").read_bytes(), timeout=120)
    assert answer.status_code == 422 and "60" in answer.json()["error"]


def test_a_dead_process_for_uploads_is_replaced(served: Served, call: Path) -> None:
    children = subprocess.run(["pgrep", "-P", str(served.process.pid)], capture_output=True, text=True).stdout.split()
    for child in children:
        if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
            subprocess.run(["kill", "-9", child], check=True)
    first = httpx.post(f"{served.url}/v1/score", content=call.read_bytes(), timeout=120)
    assert first.status_code == 422 and "ended" in first.json()["error"]
    assert httpx.post(f"{served.url}/v1/score", content=call.read_bytes(), timeout=120).status_code == 200


# ---------------------------------------------------------------- streams


def test_a_stream_gets_the_lines_of_the_command(served: Served, call: Path) -> None:
    expected = [json.loads(line) for line in command("runtime.stream", "--file", call, "--json").splitlines()]
    sound, rng = pcm(speech(9)), np.random.default_rng(0)
    with served.stream("live=false&name=call.wav") as socket:
        start = 0
        while start < len(sound):
            size = int(rng.integers(1, 9_000))  # odd ones too: half a sample waits for its other half
            socket.send(sound[start : start + size])
            start += size
        socket.send('{"type": "end"}')
        found = lines(socket)
        assert socket.close_code == 1000
    assert list(map(comparable, found)) == list(map(comparable, expected))


def close(one: Any, other: Any) -> bool:
    """Equal to the rounding of float32 (tests/runtime/test_embedded.py explains it) and of the lines' four digits."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    return abs(one - other) < 2e-4 if isinstance(one, float) and isinstance(other, float) else one == other


def test_parallel_streams_get_what_each_gets_alone(served: Served) -> None:
    sounds = [pcm(speech(6, seed)) for seed in range(4)]

    def run(together: bool) -> list[list[dict]]:
        found: list[list[dict]] = []
        with ExitStack() as stack:
            sockets = []
            for sound in sounds:
                sockets.append(stack.enter_context(served.stream("live=false")))
                for start in range(0, len(sound), 32_000):
                    sockets[-1].send(sound[start : start + 32_000])
                sockets[-1].send('{"type": "end"}')
                if not together:
                    found.append(lines(sockets[-1]))
            return found or [lines(socket) for socket in sockets]

    alone, together = run(False), run(True)
    for one, other in zip(alone, together, strict=True):
        assert close(list(map(comparable, one)), list(map(comparable, other)))


def test_a_live_client_that_floods_loses_its_oldest_sound_and_learns_it(served: Served) -> None:
    with served.stream() as socket:
        for _ in range(4):
            socket.send(pcm(speech(10)))
        socket.send('{"type": "end"}')
        found = lines(socket)
    lost = sum(line["lost"] for line in found if line["type"] == "gap")
    assert lost > 10 and found[-1]["lost"] == pytest.approx(lost, abs=0.01)
    assert found[-1]["seconds"] + lost == pytest.approx(40, abs=0.01)
    assert served.metric("shrike_dropped_seconds_total") >= lost - 0.01


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
def test_webm_of_a_browser_is_decoded(served: Served, call: Path) -> None:
    webm = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", call, "-c:a", "libopus", "-f", "webm", "pipe:1"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    with served.stream("format=container&live=false") as socket:
        for start in range(0, len(webm), 1000):
            socket.send(webm[start : start + 1000])
        socket.send('{"type": "end"}')
        found = lines(socket)
    assert found[-1]["type"] == "summary" and found[-1]["seconds"] == pytest.approx(9, abs=0.2)
    with served.stream("format=container") as socket:
        socket.send(b"garbage" * 1000)
        socket.send('{"type": "end"}')
        assert lines(socket)[-1]["flags"] == {"truncated": 1.0}


def test_text_and_garbage_end_a_stream_with_a_line(served: Served) -> None:
    for text in ("hello", "[" * 5000, '{"type": "stop"}'):
        with served.stream() as socket:
            socket.send(np.random.default_rng(0).bytes(999))
            socket.send(text)
            found = lines(socket)
        assert {"error", "summary"} <= {line["type"] for line in found}
    with served.stream("format=f32le") as socket:
        socket.send(np.full(16_000, np.nan, "<f4").tobytes())
        socket.send('{"type": "end"}')
        assert lines(socket)[-1]["state"] == "no-voice"


@pytest.mark.parametrize("query", ["rate=4000", "rate=x", "format=mp3", "live=1", "modle=wide", "model=f0"])
def test_a_wrong_stream_is_refused_before_it_begins(served: Served, query: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        served.stream(query).__enter__()
    assert refused.value.response.status_code == 400


def test_one_stream_too_many_is_refused_and_a_slow_reader_delays_nobody(served: Served) -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(served.stream()) for _ in range(6)]
        assert httpx.get(f"{served.url}/readyz", timeout=30).status_code == 503
        with served.stream() as more:
            assert lines(more)[-1]["type"] == "error" and more.close_code == 1013
        assert served.metric("shrike_streams") == 6
        sockets[0].send(pcm(speech(1)))  # its lines are never read
        sockets[1].send(pcm(speech(1)))
        sockets[1].send('{"type": "end"}')
        assert lines(sockets[1])[-1]["type"] == "summary"
    assert_soon(lambda: served.metric("shrike_streams") == 0)
    assert httpx.get(f"{served.url}/readyz", timeout=30).status_code == 200


def assert_soon(condition) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


# ---------------------------------------------------------------- who may call


def test_a_client_that_may_wait_loses_nothing_however_large_its_messages_are(served: Served) -> None:
    sound = pcm(speech(16))
    with served.stream("live=false") as socket:
        socket.send(sound)
        socket.send('{"type": "end"}')
        found = lines(socket)
    assert not [line for line in found if line["type"] == "gap"]
    assert found[-1]["type"] == "summary" and found[-1]["seconds"] == pytest.approx(16, abs=0.01)


def test_other_origins_and_hosts_are_refused(served: Served) -> None:
    port = served.url.rpartition(":")[2]
    for headers in (
        {"Origin": "https://evil.example"},
        {"Host": f"evil.example:{port}"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Host": "["},
    ):
        answer = httpx.get(f"{served.url}/v1/models", headers=headers, timeout=30)
        assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers
    with pytest.raises(InvalidStatus) as refused:
        served.stream(origin="https://evil.example").__enter__()
    assert refused.value.response.status_code == 403
    assert httpx.get(f"{served.url}/v1/models", headers={"Origin": served.url}, timeout=30).status_code == 200


def test_a_token_is_needed_where_one_is_set(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    with serving("--token-file", str(tmp_path / "token"), "--stream-model", "f0") as served:
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        for path in ("/v1/models", "/metrics"):
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "ä".encode()}):
                assert httpx.get(served.url + path, headers=headers, timeout=30).status_code == 401
            assert httpx.get(served.url + path, headers=bearer, timeout=30).status_code == 200
        for path in ("/", "/healthz", "/readyz"):
            assert httpx.get(served.url + path, timeout=30).status_code == 200
        with pytest.raises(InvalidStatus):
            served.stream().__enter__()
        with served.stream(additional_headers=bearer) as socket:
            assert json.loads(socket.recv())["band"][1] < 1000  # f0's
        with served.stream(subprotocols=["shrike", f"bearer.{TOKEN}"]) as socket:
            assert socket.subprotocol == "shrike"


def test_answers_have_a_strict_policy_and_metrics_parse(served: Served) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    for path in ("/", "/v1/models", "/none"):
        policy = httpx.get(served.url + path, timeout=30).headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
    families = {family.name for family in text_string_to_metric_families(httpx.get(f"{served.url}/metrics").text)}
    assert {"shrike_streams", "shrike_lateness_seconds", "shrike_real_time_factor", "shrike_model_info"} <= families


# ---------------------------------------------------------------- the process


def test_a_killed_service_starts_again_on_its_port_and_sigterm_is_a_normal_end() -> None:
    with serving() as first, first.stream() as socket:
        port = first.url.rpartition(":")[2]
        socket.send(pcm(speech(2)))
        first.process.kill()
        first.process.wait(30)
        assert not [line for line in lines(socket) if line["type"] == "summary"]
    with serving("--port", port) as second, second.stream() as socket:
        assert json.loads(socket.recv())["type"] == "start"
        second.process.terminate()
        assert second.process.wait(60) == 0


def test_a_service_that_scores_an_upload_ends_at_once(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.flac", np.tile(speech(10), 180), 16_000)  # half an hour
    with serving() as served, ThreadPoolExecutor() as threads:
        body = (tmp_path / "long.flac").read_bytes()
        answer = threads.submit(httpx.post, f"{served.url}/v1/score", content=body, timeout=120)
        time.sleep(3)
        assert not answer.done()
        served.process.terminate()
        assert served.process.wait(30) == 0
        assert isinstance(answer.exception(), httpx.HTTPError) or answer.result().status_code >= 400


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    paths = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        paths.append(made_model(folder))
    with (
        pytest.raises(AssertionError, match="two names in their cards"),
        serving("--model", str(paths[0]), "--stream-model", str(paths[1])),
    ):
        pass
