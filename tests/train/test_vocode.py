"""Vocoded copies: as long, as loud and as coded as their originals, in a corpus that trains."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from onnx import TensorProto, helper

from runtime.audio.decode import load
from runtime.audio.features import PRESETS, RATE
from runtime.support.errors import ShrikeError
from train import vocode
from train.augment.filters import Dice
from train.augment.vocoders import HOP, open_vocoder
from train.data.cache import build_cache
from train.data.corpora import open_corpora
from train.data.corpus import open_corpus
from train.data.folds import sources
from train.data.sampling import pairs

LYRA = Path(__file__).resolve().parents[2].parent / "shared" / "lyra"


def save(path: Path, nodes: list[onnx.NodeProto], shape: list[str | int | None], numbers: dict[str, list[int]]) -> Path:
    """Write a vocoder without weights."""
    tensors = [helper.make_tensor(name, TensorProto.INT64, [len(value)], value) for name, value in numbers.items()]
    value = helper.make_tensor_value_info("in", TensorProto.FLOAT, shape)
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "vocoder", [value], [out], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def codec(path: Path) -> Path:
    return save(path, [helper.make_node("Tanh", ["in"], ["out"])], [1, "samples"], {})


def of_mel(path: Path) -> Path:
    """Every frame's mean level, held for a hop."""
    nodes = [
        helper.make_node("ReduceMean", ["in"], ["mean"], axes=[1]),
        helper.make_node("Transpose", ["mean"], ["column"], perm=[0, 2, 1]),
        helper.make_node("Tile", ["column", "repeats"], ["held"]),
        helper.make_node("Reshape", ["held", "flat"], ["out"]),
    ]
    return save(path, nodes, [1, 80, "frames"], {"repeats": [1, 1, HOP], "flat": [1, -1]})


def a_voice(seconds: float) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * 120 * n * time) / n for n in range(1, 20))
    return (0.1 * tone * (1 + np.sin(2 * np.pi * 3 * time))).astype(np.float32)


@pytest.mark.parametrize("name", ["world", "lpc", "griffin-lim", "lyra", "codec.onnx", "of_mel.onnx"])
def test_a_copy_has_length_level_and_no_new_zeros(name: str, tmp_path: Path) -> None:
    if name in ("world", "lpc"):
        pytest.importorskip("pyworld")
    if name == "lyra" and not LYRA.is_dir():
        pytest.skip("Lyra's models are not here")
    if name == "lyra":
        pytest.importorskip("ai_edge_litert", reason="pip install '.[vocoders]'")
    if name.endswith(".onnx"):
        name = str({"codec": codec, "of_mel": of_mel}[Path(name).stem](tmp_path / name))
    sound, vocoder = a_voice(1.23), open_vocoder(name, LYRA)
    sound[4000:6000] = 0.0
    first, again = (vocode.resynthesise(sound, vocoder, "seed") for _ in range(2))
    assert first.dtype == np.int16 and len(first) == len(sound) and np.array_equal(first, again)
    level = np.std(first / 2**15) / np.std(sound)
    assert level == pytest.approx(1.0, abs=0.02) or np.abs(first.astype(int)).max() >= 2**15 - 1
    assert not ((first == 0) & (np.rint(sound * 2**15) != 0)).any()


def test_a_silent_copy_is_refused() -> None:
    def silent(sound: np.ndarray, dice: Dice) -> np.ndarray:
        return np.zeros_like(sound)

    with pytest.raises(ValueError, match="silent"):
        vocode.resynthesise(a_voice(0.5), silent, "seed")


def test_a_copy_is_coded_as_its_original(tmp_path: Path) -> None:
    samples = np.rint(a_voice(1.0) * 2**15).astype(np.int16)
    vocode.write_copy(tmp_path / "a.flac", samples)
    assert np.array_equal(soundfile.read(tmp_path / "a.flac", dtype="int16")[0], samples)
    try:
        vocode.write_copy(tmp_path / "a.ogg", samples)
    except ShrikeError:
        pytest.skip("no ffmpeg with libopus")
    assert soundfile.info(tmp_path / "a.ogg").subtype == "OPUS"
    assert len(load(tmp_path / "a.ogg").samples) == len(samples)


def test_copies_are_a_corpus_that_trains_beside_their_originals(
    made_corpus: Path, made_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, path = tmp_path / "copies", codec(tmp_path / "soft clip.onnx")
    originals = [trial for trial in open_corpus(made_corpus, "train").trials if trial.bonafide]

    def make(*by: str) -> None:
        words = ["vocode", "--corpus", str(made_corpus), "--by", *by, "--out", str(out), "--workers", "1"]
        monkeypatch.setattr(sys, "argv", words)
        vocode.main()

    make(str(path))
    copies = open_corpus(out, "train")
    assert len(copies.trials) == len(originals) and copies.attacks == ("soft-clip",) and not copies.bonafide
    written = {file: file.stat().st_mtime_ns for file in out.glob("flac/*")}
    make(str(path), "griffin-lim")  # adds a vocoder, leaves what is there
    assert all(file.stat().st_mtime_ns == time for file, time in written.items())
    both = open_corpora([made_corpus, out], "train")
    assert len(both.trials) == len(open_corpus(made_corpus, "train").trials) + 2 * len(originals)
    groups = dict(zip((trial.utterance for trial in both.trials), sources(both), strict=True))
    name = originals[0].utterance
    assert groups[name] == groups[f"{name}__soft-clip"] == groups[f"{name}__griffin-lim"]
    found = pairs(both, both.trials)
    assert len(found) == 2 * len(originals)
    for original, copy in found:
        assert both.trials[copy].utterance.startswith(f"{both.trials[original].utterance}__")
    caches = [build_cache(PRESETS["f0"], trials, made_cache, 1) for _, trials in both.by_corpus()]
    assert len(caches) == 2 and len(caches[1]) == 2 * len(originals)
