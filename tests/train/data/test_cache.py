"""The feature cache: what is in it, what it notices, and that it serves from maps."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from runtime.audio.decode import load
from runtime.audio.features import PRESETS, RATE
from runtime.support.errors import ShrikeError
from train.data import cache as cache_module
from train.data import shards as shards_module
from train.data.cache import build_cache
from train.data.corpus import Trial, open_corpus
from train.data.shards import compute_shards, feature_kind, plan_shards

F0 = PRESETS["f0"]


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "SHARD_TRIALS", (4, 8))


@pytest.mark.parametrize("name", PRESETS)
def test_windows_are_the_front_ends_frames_in_half_precision(name: str, made_corpus: Path, tmp_path: Path) -> None:
    trials = open_corpus(made_corpus, "dev").trials
    cache = build_cache(PRESETS[name], trials, tmp_path, processes=1)
    assert [trial.utterance for trial in cache.trials] == [trial.utterance for trial in trials]
    for clip, trial in enumerate(trials):
        frames = PRESETS[name].frames(load(trial.path).samples)
        assert cache.lengths[clip] == len(frames)
        width = PRESETS[name].width
        for start in (0, min(3, max(0, len(frames) - width))):
            expected = np.take(frames, np.arange(start, start + width) % len(frames), axis=0)
            assert np.array_equal(cache.window(clip, start), expected.astype(np.float16))


def test_two_processes_write_what_one_writes(made_corpus: Path, tmp_path: Path, small_shards: None) -> None:
    trials = open_corpus(made_corpus, "train").trials
    for processes in (1, 2):
        build_cache(F0, trials, tmp_path / str(processes), processes)
    one, two = (sorted((tmp_path / str(p)).iterdir()) for p in (1, 2))
    assert [path.name for path in one] == [path.name for path in two] and len(one) >= 6
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(one, two, strict=True))


def watched_shards(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the shards that are computed from now on."""
    computed: list[str] = []

    def compute(part, folder):  # type: ignore[no-untyped-def]
        computed.extend(shard.name for _, shard in part)
        return compute_shards(part, folder)

    monkeypatch.setattr(shards_module, "compute_shards", compute)
    return computed


def test_a_second_run_computes_nothing_and_a_changed_file_costs_one_shard(
    made_corpus: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "corpus"
    shutil.copytree(made_corpus, root)
    trials = open_corpus(root, "train").trials
    build_cache(F0, trials, tmp_path / "cache", 1)
    computed = watched_shards(monkeypatch)
    build_cache(F0, trials, tmp_path / "cache", 1)
    build_cache(F0.with_level("window-mean"), trials, tmp_path / "cache", 1)  # the level is applied later
    assert computed == []
    os.utime(trials[5].path, (1, 1))
    build_cache(F0, trials, tmp_path / "cache", 1)
    assert len(computed) == 1
    build_cache(PRESETS["wide"], trials, tmp_path / "cache", 1)
    assert len(computed) == 1 + len(plan_shards(feature_kind(F0), trials))


@pytest.mark.parametrize("damage", ["truncated", "longer", "index gone", "index cut", "index of others"])
def test_a_damaged_shard_is_computed_again(
    damage: str, made_corpus: Path, tmp_path: Path, small_shards: None, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = open_corpus(made_corpus, "dev").trials
    before = [build_cache(F0, trials, tmp_path, 1).window(clip).copy() for clip in range(12)]
    data = sorted(tmp_path.glob("*.f16"))[1]
    index = data.with_suffix(".json")
    if damage == "truncated":
        data.write_bytes(data.read_bytes()[:-7])
    elif damage == "longer":
        data.write_bytes(data.read_bytes() + b"00")
    elif damage == "index gone":
        index.unlink()
    elif damage == "index cut":
        index.write_text(index.read_text()[:20])
    else:
        index.write_text(json.dumps({"bytes": data.stat().st_size, "frames": [1], "skipped": {}, "notes": {}}))
    cache_module._map.cache_clear()
    after = build_cache(F0, trials, tmp_path, 1)
    assert all(np.array_equal(after.window(clip), one) for clip, one in enumerate(before))
    if damage in ("truncated", "longer"):
        assert data.name in capsys.readouterr().err


def test_an_interrupted_run_continues_with_complete_shards(
    made_corpus: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real process is ended by SIGKILL between shards; what it finished stands, nothing half-written is taken."""
    program = (
        "import sys, time; from pathlib import Path\n"
        "from train.data import cache, shards; from train.data.corpus import open_corpus\n"
        "shards.SHARD_TRIALS = (4, 8); from runtime.audio.features import PRESETS\n"
        "real = shards.compute_shards\n"
        "def slow(*a):\n    real(*a); print('shard', flush=True); time.sleep(0.5); return 1\n"
        "shards.compute_shards = slow\n"
        "cache.build_cache(PRESETS['f0'], open_corpus(sys.argv[1], 'train').trials, Path(sys.argv[2]), 1)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(made_corpus), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "shard\n" and child.stdout.readline() == "shard\n"
    child.kill()
    child.wait()
    stood = len(list(tmp_path.glob("*.json")))
    assert 2 <= stood < 6
    trials = open_corpus(made_corpus, "train").trials
    computed = watched_shards(monkeypatch)
    cache = build_cache(F0, trials, tmp_path, 1)
    assert len(computed) == 6 - stood and len(cache) == 24


def test_unusable_clips_are_left_out_with_a_sentence_each(
    tmp_path: Path, made_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = open_corpus(made_corpus, "dev").trials
    sounds = {
        "silent": np.zeros(RATE, np.float32),
        "short": np.random.default_rng(0).standard_normal(1700).astype(np.float32) * 0.1,
        "nan": np.full(RATE, np.nan, np.float32),
    }
    bad = []
    for name, sound in sounds.items():
        soundfile.write(tmp_path / f"{name}.wav", sound, RATE, subtype="FLOAT")
        bad.append(Trial(name, "s", "-", True, tmp_path / f"{name}.wav"))
    (tmp_path / "broken.flac").write_bytes(b"fLaC and then nothing of use")
    bad.append(Trial("broken", "s", "-", True, tmp_path / "broken.flac"))
    bad.append(Trial("gone", "s", "-", True, tmp_path / "gone.flac"))
    cache = build_cache(F0, [*bad[:2], *good, *bad[2:]], tmp_path / "cache", 1)
    assert [trial.utterance for trial in cache.trials] == [trial.utterance for trial in good]
    assert set(cache.skipped) == {"silent", "short", "nan", "broken", "gone"}
    assert "shorter than one analysis window (108 ms)" in cache.skipped["short"]
    log = capsys.readouterr().err
    assert all(name in log for name in cache.skipped)
    assert cache.labels.sum() == 6
    with pytest.raises(ShrikeError):
        build_cache(F0, bad, tmp_path / "cache", 1)


def test_a_disk_that_is_too_small_is_an_error_before_it_is_full(
    made_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(shards_module.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ShrikeError, match="--cache"):
        build_cache(F0, open_corpus(made_corpus, "dev").trials, tmp_path, 1)
    assert not list(tmp_path.glob("*.f16"))


@pytest.mark.parametrize("trials, most", [(25_380, 64), (100_000, 64)])
def test_shards_stay_few_enough_to_map_at_once(trials: int, most: int) -> None:
    made = [Trial(f"U{number}", "s", "-", True, None) for number in range(trials)]
    shards = plan_shards(feature_kind(F0), made)
    assert len(shards) <= most and sum(len(shard.trials) for shard in shards) == trials
    assert len({shard.name for shard in shards}) == len(shards)


def test_twenty_five_thousand_clips_are_served_from_maps_not_from_memory(tmp_path: Path) -> None:
    """As many frames as ASVspoof 2019 LA's training set: a fresh process reads batches and stays small."""
    program = """
import json, resource, sys
from pathlib import Path
import numpy as np
from runtime.audio.features import PRESETS
from train.data.cache import build_cache
from train.data.corpus import Trial
from train.data.dataset import Windows
from train.data.sampling import training_plan
from train.data.shards import feature_kind, plan_shards
frontend, folder, frames = PRESETS["f0"], Path(sys.argv[1]), 420
trials = [Trial(f"U{n}", "s", "-", bool(n % 2), None) for n in range(25_380)]
shards = plan_shards(feature_kind(frontend), trials)
for shard in shards:
    size = len(shard.trials) * frames * 45 * 2
    with open(folder / f"{shard.name}.f16", "wb") as out:
        out.truncate(size)  # a sparse file: the pages exist once they are read
    index = {"bytes": size, "frames": [frames] * len(shard.trials), "skipped": {}, "notes": {}}
    (folder / f"{shard.name}.json").write_text(json.dumps(index))
cache = build_cache(frontend, trials, folder, 1)
def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024
before = anonymous()
windows = Windows(cache)
for crops in training_plan(cache, 64, 0, 0)[:30]:
    windows.read(crops)
total = sum((folder / f"{s.name}.f16").stat().st_size for s in shards) >> 20
print(len(cache), total, anonymous() - before)
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc to tell mapped from held memory")
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    clips, total, grown = map(int, done.stdout.split())
    assert clips == 25_380 and total > 900
    assert grown < 100, "MiB held by the process after 6,400 clips were read"
