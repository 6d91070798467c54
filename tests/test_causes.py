"""What a user can cause, caused: the command is run in this process, and its one line is read."""

import importlib
import os
import re
import shutil
from pathlib import Path

import pytest
import soundfile

from runtime.support.errors import ShrikeError
from tests.test_voice import in_process

# In a folder that holds corpus/, model.pt, small.onnx, scores.txt, asv.txt, report/, call.flac, page.md and rooms/
# (tests/conftest.py); what is not there is made by `odd` below.
CAUSED = [
    ("train --corpus corpus --out run", "run holds a run already: .* --out$"),
    ("train --corpus corpus --out call.flac/x", r"--out call.flac/x: no folder can be made there \(Not a"),
    ("train --corpus corpus --cache call.flac", r"--cache call.flac: no folder can be made there \(File"),
    ("train --corpus corpus --batch 1", "--batch 1: at least 2"),
    ("train --corpus corpus --rho -1", "--rho -1.0: a radius, 0 or more was expected$"),
    ("train.score model.pt --corpus corpus --exit 5", "--exit 5: model.pt has (1 to 4|4 alone)"),
    (
        "train.score model.pt --corpus corpus --protocol bare.txt",
        "these trials have no labels, so nothing can be summarised; give --out FILE for their scores$",
    ),
    ("train.score model.pt --corpus corpus --device tpu", "--device tpu"),
    ("benchmarks.drift model.pt small.onnx --corpus corpus", "small.json does not speak for small.onnx, only for"),
    ("train.evaluate.summary empty.txt", "empty.txt holds no scores, but lines .* were expected"),
    ("train.evaluate.summary folder.txt", "folder.txt cannot be read .Is a directory.; a text file of lines"),
    ("export.onnx folder.txt --precision fp32", "folder.txt"),
    ("export.onnx empty.txt --precision fp32", "empty.txt cannot be read as a checkpoint: it is empty"),
    ("export.onnx model.pt", r"INT8 needs --calibration CORPUS: .* or export with --precision fp32$"),
    ("export.onnx model.pt --qat -1", "--qat -1: a number of epochs, 0 or more, was expected$"),
    ("export.trt folder.onnx", r"folder.onnx is a folder; python -m export.onnx writes such files"),
    ("export.trt empty.onnx", "empty.onnx is no (valid )?ONNX file; export it again"),
    ("export.trt small.onnx", "small.onnx is not for TensorRT: .* --target tensorrt writes one"),
    ("export.trt small.onnx --workspace 0", "--workspace 0: 1 to 65,536 MiB were expected"),
    ("runtime.stream", "none of them came; one of --mic, --file FILE, --stdin and --demo was expected"),
    ("runtime.stream --file call.flac call.flac --record x.flac", "--record keeps one stream: give one --file"),
    ("runtime.stream --demo --record x.wav", "--record x.wav: a name that ends in .flac was expected"),
    ("runtime.stream --demo --record call.flac/x.flac", r"call.flac/x.flac: cannot be written \("),
    ("runtime.stream --demo --plot x.txt", "--plot x.txt: a name that ends in .* was expected"),
    ("runtime.stream --file silent.wav", "silent.wav: holds no samples"),
    ("runtime.stream --file folder.txt", "folder.txt: .* is a (folder|directory)|folder.txt: "),
    ("runtime.stream --demo --step 5000", "step"),
    ("runtime.stream --demo --prior 2", "prior"),
    ("runtime.stream --demo --provider cuad", "--provider cuad: ONNX Runtime .* one of which was expected"),
    ("benchmarks.accuracy", "nothing to measure: name models, or score files with --scores"),
    ("benchmarks.accuracy f0", "models need --corpus"),
    ("benchmarks.accuracy f0 --corpus corpus --workers -1", "--workers -1: 0 or more was expected"),
    ("benchmarks.accuracy f0 --corpus corpus --exit 2", "--exit belongs to checkpoints; f0 was exported"),
    ("benchmarks.accuracy ff0 --corpus corpus", "ff0 is no model; .* was expected; did you mean f0"),
    ("benchmarks.accuracy f0 --corpus corpus --partition eval --protocol bare.txt", "accuracy needs bona fide"),
    ("benchmarks.accuracy --scores asv.txt --asv asv.txt", "--scores names only the file that --asv names; give"),
    ("benchmarks.accuracy --scores scores.txt --flip score", "--flip score: no such system among --scores; there"),
    ("benchmarks.compare report report --tolerance -1", "--tolerance -1.0: percent, 0 or more, were expected"),
    ("benchmarks.compare report damaged", "damaged/report.json"),
    ("benchmarks.experiments", "no runs were named; give the folders that python -m train --out wrote"),
    ("benchmarks.latency --batch 0", "--batch: 1 to 1024 were expected"),
    ("benchmarks.latency --peer-shape a=1", "--peer-shape needs a --peer"),
    ("benchmarks.report", "nothing to do: name folders of reports to show, or Markdown files with --into"),
    ("benchmarks.report --into folder.txt", "folder.txt cannot be read: Is a directory"),
    ("benchmarks.sharpness model.pt --corpus corpus --batch 3", "--batch 3: an even number was expected"),
    ("benchmarks.sharpness model.pt --corpus corpus --partition eval --protocol bare.txt", "has no labels; sharp"),
    ("benchmarks.stream --seconds 1", "--seconds 1.0: at least 2 were expected"),
    ("benchmarks.streams f0 f0", "models: one or several different ones were expected"),
    ("benchmarks.streams --streams 0", "--streams .*: different numbers, at least 1, were expected"),
    ("benchmarks.streams --seconds 0", "--seconds 0.0: at least 1 was expected"),
]  # fmt: skip


@pytest.fixture(scope="module")
def odd(there: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same folder with what people come with by mistake."""
    folder = tmp_path_factory.mktemp("odd") / "odd"
    shutil.copytree(there, folder)
    for name in ("empty.txt", "empty.onnx", "run/last.pt"):
        (folder / name).touch()
    for name in ("folder.txt", "folder.onnx", "damaged"):
        (folder / name).mkdir()
    (folder / "damaged" / "report.json").write_text("{")
    soundfile.write(folder / "silent.wav", [], 16_000)
    trials = (folder / "corpus" / "protocols" / "eval.txt").read_text().split()[1::5]
    (folder / "bare.txt").write_text("".join(f"{name}\n" for name in trials))
    return folder


@pytest.mark.parametrize(("words", "sentence"), CAUSED, ids=[caused[0] for caused in CAUSED])
def test_what_a_user_can_cause_reads_as_help(
    words: str, sentence: str, odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(odd)
    monkeypatch.setenv("HOME", str(tmp_path))
    command, *rest = words.split()
    with pytest.raises(ShrikeError) as error:
        in_process(command, rest, monkeypatch)
    told = str(error.value)
    assert re.search(sentence, told) and "\n" not in told and "Errno" not in told, told


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError("PortAudio library not found"), "--mic needs PortAudio: sudo apt install libportaudio2"),
        (ImportError("No module named 'sounddevice'"), "--mic needs the package sounddevice: pip install sounddevice"),
    ],
)
def test_a_missing_system_package_is_named_with_its_command(
    error: Exception, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise error

    monkeypatch.setattr(importlib, "import_module", missing)
    for words in (["--mic"], ["--list-devices"]):
        with pytest.raises(ShrikeError) as told:
            in_process("runtime.stream", words, monkeypatch)
        assert str(told.value) == sentence


def test_a_missing_ffmpeg_is_named_with_its_command(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from train.augment import codecs

    monkeypatch.setattr(codecs.shutil, "which", lambda name: None)
    with pytest.raises(ShrikeError, match="there is no ffmpeg here: sudo apt install ffmpeg"):
        codecs._ffmpeg([], b"")
    _, refused = codecs.available(["amr"], 16_000)
    assert len(refused) == 1 and "sudo apt install ffmpeg" in refused[0]


def test_a_terminal_is_no_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    from runtime.sources.pcm import PcmSource
    from runtime.support.shutdown import Stop

    ours, theirs = os.openpty()
    try:
        with Stop() as stop, pytest.raises(ShrikeError, match="--stdin: a terminal is no sound; pipe samples in: ar"):
            PcmSource(16_000, "s16le", 1, 16_000, stop, theirs)
    finally:
        os.close(ours)
        os.close(theirs)
