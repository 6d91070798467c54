"""Fixtures that several packages' tests share, and the options --fast and --long."""

import multiprocessing.process
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import soundfile

from runtime.audio.features import RATE

REPOSITORY = Path(__file__).resolve().parent.parent

# --fast runs these files, without tests that start a process or use one of these fixtures: a minute on two cores.
FAST = (
    "test_house.py",
    "test_docs.py",
    "test_vocabulary.py",
    "runtime/audio/",
    "runtime/card/",
    "runtime/support/",
    "runtime/sinks/test_sinks.py",
    "runtime/sources/test_sources.py",
    "runtime/test_api.py",
    "runtime/test_multi_stream.py",
    "runtime/test_segments.py",
    "runtime/test_verdict.py",
    "train/data/test_protocols.py",
    "train/evaluate/",
    "train/losses/test_alignment.py",
    "train/losses/test_contrastive.py",
    "train/losses/test_distillation.py",
    "train/losses/test_weighting.py",
    "train/networks/test_heads.py",
    "train/test_checks.py",
    "train/test_config.py",
    "export/test_scales.py",
    "benchmarks/test_compare.py",
    "benchmarks/test_host.py",
    "benchmarks/test_stats.py",
)
SLOW_FIXTURES = {"corpus_root", "made_corpus", "made_cache", "there", "odd", "daemon"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="leave out tests that need a corpus, a process or training")
    parser.addoption("--long", action="store_true", help="run the tests marked `long` as well")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --fast other files are not even imported."""
    if not config.getoption("--fast") or collection_path.suffix != ".py":
        return None
    return True if not collection_path.relative_to(REPOSITORY / "tests").as_posix().startswith(FAST) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    fast, long = config.getoption("--fast"), config.getoption("--long") or "long" in config.getoption("markexpr")

    def wanted(item: pytest.Item) -> bool:
        if item.get_closest_marker("long") and not long:
            return False
        return not (fast and SLOW_FIXTURES & set(getattr(item, "fixturenames", ())))

    left = [item for item in items if not wanted(item)]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if wanted(item)]


@pytest.fixture(autouse=True)
def _no_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --fast a test that starts a process is skipped."""
    if not request.config.getoption("--fast"):
        return

    def skip(*_: Any, **__: Any) -> NoReturn:
        pytest.skip("--fast: starts a process")

    monkeypatch.setattr(subprocess.Popen, "__init__", skip)
    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", skip)


@pytest.fixture(scope="session")
def corpus_root() -> Path:
    """The corpus of real speech and real fakes that lies beside the repository; other machines skip what needs it."""
    root = Path(os.environ.get("SHRIKE_CORPUS", REPOSITORY.parent / "shared" / "corpus"))
    if not (root / "protocols").is_dir():
        pytest.skip(f"needs the speech corpus at {root} (or set SHRIKE_CORPUS)")
    return root


# A small synthetic corpus in the plain form: training is tested on machines without any corpus.
TRIALS = {"train": 24, "dev": 12, "eval": 12}


def voice(rng: np.random.Generator, bonafide: bool) -> np.ndarray:
    """Bona fide: a pitch that wanders. Spoof: one that stands still. Both in a little noise, 1 to 6 seconds."""
    time = np.arange(int(rng.uniform(1.0, 6.0) * RATE)) / RATE
    wander = 12 * np.sin(2 * np.pi * rng.uniform(2, 4) * time) if bonafide else 0 * time
    phase = 2 * np.pi * np.cumsum(rng.uniform(90, 180) + wander) / RATE
    sound = sum(np.sin(k * phase) / k for k in range(1, 12))
    return (0.1 * sound + 0.003 * rng.standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="session")
def made_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(7)
    (root / "flac").mkdir()
    (root / "protocols").mkdir()
    for partition, count in TRIALS.items():
        lines = []
        for number in range(count):
            bonafide = number % 2 == 0
            name = f"{partition}_{number:03d}"
            soundfile.write(root / "flac" / f"{name}.flac", voice(rng, bonafide), RATE)
            attack = "-" if bonafide else f"S{number % 3:02d}"
            lines.append(f"speaker{number % 5} {name} - {attack} {'bonafide' if bonafide else 'spoof'}\n")
        (root / "protocols" / f"{partition}.txt").write_text("".join(lines))
    return root


@pytest.fixture(scope="session")
def made_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One feature cache for all tests that only read it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def there(tmp_path_factory: pytest.TempPathFactory, made_corpus: Path) -> Path:
    """A folder with one of everything that a command reads."""
    folder = tmp_path_factory.mktemp("there")
    shutil.copytree(made_corpus, folder / "corpus")
    shutil.copytree(REPOSITORY / "docs" / "reports" / "latency", folder / "report")
    shutil.copy(REPOSITORY / "train" / "models" / "f0.pt", folder / "model.pt")
    for ending in ("onnx", "json"):
        shutil.copy(REPOSITORY / "runtime" / "models" / f"f0.{ending}", folder / f"small.{ending}")
    shutil.copy(next((made_corpus / "flac").iterdir()), folder / "call.flac")
    (folder / "run").mkdir()
    shutil.copy(folder / "model.pt", folder / "run")
    (folder / "page.md").write_text("no block\n")
    (folder / "rooms").mkdir()
    pair = "u1 - bonafide 1.5\nu2 A01 spoof -1.5\n"
    (folder / "scores.txt").write_text(pair)
    (folder / "asv.txt").write_text("- target 2\n- nontarget 0\nA01 spoof 1\n")
    return folder
