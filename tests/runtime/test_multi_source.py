"""Several sources at once: each says what it would say alone, and one that fails ends alone."""

import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.console import Console

from runtime.audio.features import RATE, Samples
from runtime.card.model_card import read_card
from runtime.engines import open_engine
from runtime.engines.model_loader import LoadedModel
from runtime.multi_source import MultiSource, number_duplicates
from runtime.multi_stream import StreamBatcher
from runtime.session import Session, VerdictOptions
from runtime.sinks.board import Board
from runtime.sinks.jsonl import JsonLines
from runtime.sources import Block
from runtime.support.errors import ShrikeError
from runtime.support.shutdown import Stop
from tests.runtime.made_model import made_model
from tests.runtime.made_steps import made_steps
from tests.runtime.speech import speech as voice

ROOT = Path(__file__).resolve().parents[2]


class Pieces:
    """A source of given blocks, of which one may be an error."""

    live = False

    def __init__(self, name: str, *blocks: Samples | Exception | Block) -> None:
        self.name, self.blocks, self.closed = name, blocks, 0

    def __iter__(self) -> Iterator[Block]:
        for block in self.blocks:
            if isinstance(block, Exception):
                raise block
            yield block if isinstance(block, Block) else Block(block, time.monotonic())

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(scope="module", params=["steps", "windows"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return made_steps(folder, "wide") if request.param == "steps" else made_model(folder, "wide")


Lines = dict[str, list[dict[str, Any]]]


def run(model: Path, *sources: Pieces, stop_after: float | None = None) -> tuple[Lines, int, list[str]]:
    """Return the JSON lines of each source without clock times, how many sources failed, and the log lines."""
    out, log = io.StringIO(), []
    with open_engine(model) as engine, Stop() as stop:  # type: ignore[attr-defined]
        loaded = LoadedModel(engine, read_card(model), "ONNX Runtime", "", "made")
        batcher = StreamBatcher(engine, loaded.card.frontend)
        together = MultiSource(batcher, stop, log.append)
        for source in sources:
            together.add(source, Session(loaded, [JsonLines(out, named=True)], VerdictOptions(), batcher))
        if stop_after is not None:
            threading.Timer(stop_after, stop.request).start()
        failed = together.run()
        assert len(batcher) == 0
    found: Lines = {}
    for line in map(json.loads, out.getvalue().splitlines()):
        found.setdefault(line["source"], []).append({k: v for k, v in line.items() if k not in ("at", "cost")})
    return found, failed, log


def cut(samples: Samples, size: int) -> list[Samples]:
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def test_each_says_what_it_says_alone(model: Path) -> None:
    sounds = [voice(2.5 + seed, seed) for seed in range(4)]
    sizes = [320, 8_000, 777, 50_000]
    sources = [Pieces(f"s{seed}", *cut(sounds[seed], sizes[seed])) for seed in range(4)]
    together, failed, log = run(model, *sources)
    assert failed == 0 and log == [] and all(source.closed for source in sources)
    for seed in range(4):
        alone, _, _ = run(model, Pieces(f"s{seed}", sounds[seed]))
        assert together[f"s{seed}"] == alone[f"s{seed}"]
        assert len(together[f"s{seed}"]) > 10


def test_a_gap_and_a_note_belong_to_their_stream(model: Path) -> None:
    gap = Block(voice(1.5, 3), 0.0, lost=1.0, note="unplugged")
    found, _, _ = run(model, Pieces("whole", voice(3, 1)), Pieces("torn", voice(1.5, 2), gap))
    assert {line["type"] for line in found["whole"]} == {"start", "verdict", "summary"}
    assert [line["type"] for line in found["torn"] if line["type"] in ("gap", "note")] == ["gap", "note"]


def test_one_that_fails_ends_alone_with_what_it_had(model: Path) -> None:
    nonsense = np.full(4_000, np.nan, np.float32)
    sources = [
        Pieces("good", *cut(voice(3, 1), 1_000)),
        Pieces("broken", voice(1.5, 2), ShrikeError("the wire is cut")),
        Pieces("nonsense", voice(1.5, 3), nonsense, voice(9, 3)),
    ]
    found, failed, log = run(model, *sources)
    assert failed == 2 and len(log) == 2 and all(source.closed for source in sources)
    assert {line.split(": ")[1] for line in log} == {"broken", "nonsense"}
    assert found["good"] == run(model, Pieces("good", voice(3, 1)))[0]["good"]
    for name in ("broken", "nonsense"):
        assert found[name][-1]["type"] == "summary" and found[name][-1]["verdicts"] > 0


def test_a_bug_in_a_source_is_no_users_fault(model: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        run(model, Pieces("buggy", voice(1.5, 0), ZeroDivisionError()))


def test_a_stop_ends_all_of_them_with_a_summary(model: Path) -> None:
    class Endless(Pieces):
        live = True

        def __iter__(self) -> Iterator[Block]:
            while True:
                time.sleep(0.02)
                yield Block(voice(0.02, 0), time.monotonic())

    found, failed, _ = run(model, Endless("one"), Endless("two"), stop_after=0.5)
    assert failed == 0 and [found[name][-1]["type"] for name in ("one", "two")] == ["summary"] * 2


def test_sources_of_one_name_are_numbered() -> None:
    sources = [Pieces("a"), Pieces("b"), Pieces("a"), Pieces("a")]
    number_duplicates(sources)  # type: ignore[arg-type]
    assert [source.name for source in sources] == ["a", "b", "a (2)", "a (3)"]


def test_the_board_has_a_line_for_each_stream_and_no_more_than_fit(model: Path) -> None:
    console = Console(file=io.StringIO(), width=90, height=8, force_terminal=True)
    board = Board(console)
    seen: list[list[str]] = []
    draw = board.draw

    def watched(at_least: float = 0.0) -> None:
        seen.append(board.view(90).plain.splitlines())
        draw(at_least)

    board.draw = watched  # type: ignore[method-assign]
    with open_engine(model) as engine, Stop() as stop:  # type: ignore[attr-defined]
        loaded = LoadedModel(engine, read_card(model), "ONNX Runtime", "", "made")
        batcher = StreamBatcher(engine, loaded.card.frontend)
        together = MultiSource(batcher, stop, print)
        for number in range(9):
            session = Session(loaded, [board.line()], VerdictOptions(), batcher)
            together.add(Pieces(f"call-{number}", *cut(voice(2, number), 1_000)), session)
        assert together.run() == 0
    assert max(map(len, seen)) == 7 and all(len(line) <= 90 for view in seen for line in view)
    assert any("9 streams (3 not shown)" in view[-1] for view in seen)
    assert any("LLR" in line and "call-" in line for view in seen for line in view)
    board.close()


# ---- the command


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    paths = [folder / f"{number}.wav" for number in range(3)]
    for number, path in enumerate(paths):
        soundfile.write(path, voice(2.0 + number, number), RATE)
    return paths


def stream(*words: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "runtime.stream", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)


def test_files_together_say_what_they_say_one_by_one(model: Path, clips: list[Path], tmp_path: Path) -> None:
    lone = stream("--file", *clips, "--model", model)
    missing = tmp_path / "missing.wav"
    done = stream("--file", *clips, missing, "--model", model, "--together")
    assert lone.returncode == 0 and done.returncode == 2
    assert sorted(done.stdout.splitlines()) == sorted(lone.stdout.splitlines())
    assert sum("missing.wav" in line for line in done.stderr.splitlines()) == 1
    live = stream("--file", *clips[:2], "--model", model, "--together", "--realtime", "--json")
    entries = [json.loads(line) for line in live.stdout.splitlines()]
    assert {entry["source"] for entry in entries} == {str(path) for path in clips[:2]}
    first = [entry["source"] for entry in entries if entry["type"] == "verdict"]
    assert first != sorted(first)  # they do not come one after the other


def test_a_source_is_not_closed_while_it_is_read(model: Path) -> None:
    class Slow(Pieces):
        reading = torn = False

        def __iter__(self) -> Iterator[Block]:
            for block in super().__iter__():
                self.reading = True
                time.sleep(0.3)
                self.reading = False
                yield block

        def close(self) -> None:
            self.torn = self.reading
            super().close()

    source = Slow("slow", *cut(voice(9, 1), 1_000))
    run(model, source, stop_after=0.5)
    assert source.closed and not source.torn
