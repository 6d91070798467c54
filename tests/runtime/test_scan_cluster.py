"""Scan of URLs, and on a cluster: the rows of a local scan; a killed worker loses no file and doubles none."""

import csv
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import soundfile

pytest.importorskip("distributed", reason="pip install '.[cluster]'")
pytest.importorskip("aiohttp", reason="pip install '.[cluster]'")

import fsspec

from runtime.audio.features import RATE
from runtime.card.model_card import ScoreMap
from runtime.engines.model_loader import load_model
from runtime.scan import __main__ as scan
from runtime.scan import cluster as of_scan
from runtime.scan.workers import Result, Setup, score_here
from runtime.session import VerdictOptions
from runtime.support.errors import ShrikeError
from runtime.support.shutdown import Stop
from tests.runtime.made_model import made_model
from tests.runtime.speech import speech
from tests.test_commands import ENVIRONMENT
from tests.test_house import ROOT

Scan = Callable[..., int]
Row = dict[str, str]
FILES = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    return str(made_model(folder, name="unsure", score=ScoreMap(1e-6, 0.0, 0.0, "random trials")))


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calls")
    for number in range(FILES):
        soundfile.write(folder / f"{number}.flac", speech(12.0, number), RATE)
    (folder / ".hidden.flac").write_bytes(b"")
    (folder / "notes.txt").write_text("no sound")
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, model: str) -> Scan:
    def ran(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["scan", *map(str, words), "--model", model])
        return scan.main()

    return ran


def rows_of(path: Path, key: Callable[[str], str] = str) -> dict[str, Row]:
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {key(row["file"]): row for row in rows}
    assert len(found) == len(rows)  # none twice
    return found


def verdicts(rows: dict[str, Row]) -> dict[str, list[str]]:
    names = ("state", "p_spoof", "llr", "voiced", "seconds", "segments", "flags", "size")
    return {os.path.basename(file): [row[name] for name in names] for file, row in rows.items()}


@pytest.fixture
def expected(run: Scan, calls: Path, tmp_path: Path) -> dict[str, list[str]]:
    assert run(calls, "--csv", tmp_path / "here.csv", "--workers", 1) == 0
    return verdicts(rows_of(tmp_path / "here.csv"))


# ---------------------------------------------------------------- URLs


@pytest.fixture
def bucket(calls: Path) -> Iterator[str]:
    store = fsspec.filesystem("memory")
    for path in sorted(calls.iterdir()):
        store.pipe(f"/bucket/calls/{path.name}", path.read_bytes())
    yield "memory://bucket/calls/"
    store.rm("/bucket", recursive=True)


@pytest.mark.parametrize("place", ["memory", "file"])
def test_a_folder_behind_a_url_has_the_rows_of_a_local_one(
    place: str, run: Scan, calls: Path, bucket: str, expected: dict[str, list[str]], tmp_path: Path
) -> None:
    url = bucket if place == "memory" else f"file://{calls}"
    assert run(url, "--csv", tmp_path / "v.csv", "--workers", 1) == 0
    rows = rows_of(tmp_path / "v.csv")
    assert verdicts(rows) == expected and all(file.startswith(f"{place}://") for file in rows)


def test_only_new_and_changed_objects_are_scored_again(
    run: Scan, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, printed = fsspec.filesystem("memory"), []
    for number in range(3):
        if number == 2:
            store.pipe("/bucket/calls/0.flac", store.cat("/bucket/calls/1.flac"))
            store.pipe("/bucket/calls/new.flac", store.cat("/bucket/calls/1.flac"))
        assert run(bucket, "--csv", tmp_path / "v.csv", "--workers", 1) == 0
        printed.append(capsys.readouterr().out.count("\n"))
    assert printed == [FILES, 0, 2]


def test_urls_of_a_list_that_do_not_exist_are_errors_and_the_others_are_scored(
    run: Scan, bucket: str, calls: Path, tmp_path: Path
) -> None:
    wanted = [f"{bucket}none.flac", f"{bucket}0.flac", str(calls / "1.flac"), "", f"{bucket}0.flac"]
    (tmp_path / "list").write_text("\n".join(wanted))
    assert run("--list", tmp_path / "list", "--csv", tmp_path / "v.csv", "--workers", 1) == 2
    rows = rows_of(tmp_path / "v.csv")
    assert len(rows) == 3 and [file for file, row in rows.items() if row["error"]] == wanted[:1]


@pytest.mark.parametrize("url", ["nothing://a/b.wav", "memory://empty/folder/"])
def test_a_url_that_cannot_be_listed_is_refused(url: str, run: Scan) -> None:
    with pytest.raises(ShrikeError):
        run(url)


class Hostile(http.server.BaseHTTPRequestHandler):
    """A server that lies and stalls."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        kind, body = self.path.partition(".")[0].strip("/"), self.server.sound  # type: ignore[attr-defined]
        self.send_response(404 if kind == "gone" else 200)
        if kind == "endless":
            self.send_header("Transfer-Encoding", "chunked")
        else:
            size = {"claims": 2**40, "short": len(body) + 1000, "gone": 0}.get(kind, len(body))
            self.send_header("Content-Length", str(size))
        self.end_headers()
        if self.command == "HEAD" or kind == "gone":
            return
        if kind == "stalls":
            self.server.over.wait(30)  # type: ignore[attr-defined]
        elif kind == "endless":
            try:
                for _ in range(200):
                    self.wfile.write(b"100000\r\n" + bytes(2**20) + b"\r\n")
            except OSError:
                return
        else:
            self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(calls: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as found:
        found.daemon_threads = True
        found.sound, found.over = (calls / "0.flac").read_bytes(), threading.Event()  # type: ignore[attr-defined]
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.over.set()  # type: ignore[attr-defined]
        found.shutdown()


def test_hostile_servers_are_errors_within_the_limits(
    run: Scan, server: str, expected: dict[str, list[str]], tmp_path: Path
) -> None:
    kinds = ["good", "claims", "endless", "stalls", "short", "gone"]
    urls = [f"{server}/{kind}.flac" for kind in kinds]
    words = ["--csv", tmp_path / "v.csv", "--workers", 1, "--max-mb", 2, "--timeout", 1]
    before = set(os.listdir(tmp_path))
    assert run(*urls, *words) == 2
    rows = rows_of(tmp_path / "v.csv", lambda file: Path(file).stem)
    assert [kind for kind in kinds if not rows[kind]["error"]] == ["good"]
    assert verdicts({"0.flac": rows["good"]})["0.flac"] == expected["0.flac"]
    assert set(os.listdir(tmp_path)) == before | {"v.csv"}


# ---------------------------------------------------------------- a cluster


class Running(NamedTuple):
    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Running]:
    """A scheduler and two workers, each a process."""
    place = tmp_path / "scheduler.json"
    quiet = {"cwd": ROOT, "env": ENVIRONMENT | {"PYTHONPATH": str(ROOT)}, "stderr": subprocess.DEVNULL}
    with ExitStack() as stack:

        def start(program: str, *words: str) -> subprocess.Popen[bytes]:
            line = [sys.executable, "-m", f"distributed.cli.dask_{program}", "--scheduler-file", str(place), *words]
            process = stack.enter_context(subprocess.Popen(line, **quiet))  # type: ignore[call-overload]
            stack.callback(process.kill)
            return process

        scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        folder = ["--local-directory", str(tmp_path), "--no-dashboard"]
        workers = [start("worker", "--no-nanny", "--nthreads", "1", *folder) for _ in range(2)]
        for _ in range(1200):
            if place.exists() and place.stat().st_size:
                break
            time.sleep(0.05)
        yield Running(json.loads(place.read_text())["address"], scheduler, workers)


@pytest.fixture
def setup(model: str) -> Setup:
    return Setup(model, "auto", "cpu", VerdictOptions(308, cover=True))


def test_a_killed_worker_of_a_cluster_loses_no_file_and_doubles_none(
    dask: Running, setup: Setup, calls: Path, run: Scan, tmp_path: Path
) -> None:
    paths = [calls / f"{number}.flac" for number in range(FILES)]
    loaded = load_model(Path(setup.model), "auto")
    results: list[Result] = []
    for result in of_scan.score_on_cluster(dask.address, setup, loaded, paths, 2, Stop()):
        if not results:
            os.kill(dask.workers[0].pid, signal.SIGKILL)
        results.append(result)
    assert sorted(os.fspath(result.path) for result in results) == [str(path) for path in paths]
    assert not any(result.error for result in results)

    # The other worker: a scan that is killed goes on, here or there, to the same table.
    table, whole, partial = tmp_path / "v.csv", tmp_path / "whole.csv", tmp_path / "v.csv.partial"
    words = [str(calls), "--model", setup.model, "--csv", str(table), "--dask", dask.address]
    with subprocess.Popen([sys.executable, "-m", "runtime.scan", *words], cwd=ROOT, env=ENVIRONMENT) as process:
        while process.poll() is None and not (partial.exists() and partial.read_bytes().count(b"\n") >= 3):
            time.sleep(0.005)
        process.kill()
    assert run(calls, "--csv", table, "--dask", dask.address) == 0 == run(calls, "--csv", whole, "--workers", 1)
    assert table.read_bytes() == whole.read_bytes()

    # Without a scheduler it ends, with an error of one line.
    with pytest.raises(ShrikeError):
        for _ in of_scan.score_on_cluster(dask.address, setup, loaded, paths * 20, 2, Stop()):
            dask.scheduler.kill()


def test_a_file_that_kills_every_worker_is_an_error_and_the_others_are_scored(
    setup: Setup, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly = lambda setup, proof, path: os._exit(1) if path.name == "0.flac" else score_here(setup, path)  # noqa: E731
    monkeypatch.setattr(of_scan, "_score", deadly)  # a lambda travels to the workers as a value
    paths = [calls / f"{number}.flac" for number in range(3)]
    loaded = load_model(Path(setup.model), "auto")
    found = list(of_scan.score_on_cluster("local", setup, loaded, paths, 2, Stop()))
    assert sorted((os.path.basename(result.path), bool(result.error)) for result in found) == [
        ("0.flac", True),
        ("1.flac", False),
        ("2.flac", False),
    ]


def test_a_local_cluster_gives_the_rows_of_processes_and_the_exit_codes_of_a_scan(
    run: Scan, calls: Path, expected: dict[str, list[str]], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    words = ["--csv", tmp_path / "v.csv", "--dask", "local", "--workers", 2]
    assert run(f"file://{calls}/", broken, *words) == 2
    rows = rows_of(tmp_path / "v.csv")
    assert rows.pop(str(broken))["error"] and verdicts(rows) == expected


def test_no_scheduler_and_a_worker_of_another_version_are_refused(
    run: Scan, setup: Setup, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_scan, "CONNECTING", 0.5)
    with pytest.raises(ShrikeError):
        run(calls, "--dask", "tcp://127.0.0.1:9")
    proof = of_scan.prove(setup, load_model(Path(setup.model), "auto"))
    of_scan._check(setup, proof)
    with pytest.raises(ShrikeError):
        of_scan._check(setup, replace(proof, version="0"))
