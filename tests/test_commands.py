"""Every command, whatever is wrong with its command line or its files: exit code 2, one line, no traceback.

The commands run in this process; a handful of real ones at the end are interrupted or lose their output.
"""

import importlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import pytest
import soundfile
import tyro

from runtime.support.command import run
from runtime.support.errors import ShrikeError
from tests.test_house import COMMANDS, ROOT

# ---------------------------------------------------------------- a command in this process


class Ended(NamedTuple):
    """The end of a command: exit code and output."""

    code: int
    out: str
    err: str


Call = Callable[..., Ended]


@lru_cache
def module(command: str) -> ModuleType:
    main = ROOT / Path(*command.split(".")) / "__main__.py"
    return importlib.import_module(f"{command}.__main__" if main.is_file() else command)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    monkeypatch.setenv("HOME", str(tmp_path))  # for caches

    def called(command: str, *words: str) -> Ended:
        monkeypatch.setattr(sys, "argv", [command, *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            run(module(command).main)
        return Ended(int(end.value.code or 0), *capsys.readouterr())

    return called


def assert_one_line(ended: Ended, *named: str) -> None:
    """A wrong command line: exit code 2 and a single line that names what was wrong."""
    assert ended.err.count("\n") == 1, ended.err
    assert_error(ended, *named)


def assert_error(ended: Ended, *named: str) -> None:
    """The same where the command may have logged before."""
    assert ended.code == 2 and ended.out == "", ended
    *before, line = ended.err.removesuffix("\n").split("\n")
    assert line.startswith("error: ") and line.isprintable() and "Errno" not in line, ended.err
    assert not [one for one in before if one.startswith(("error", "Traceback"))], ended.err
    for name in named:
        assert name in line, f"{name} is not in: {line}"


# ---------------------------------------------------------------- its options, read from the dataclass


class Option(NamedTuple):
    """One field of a command's dataclass."""

    name: str  # as it is typed, without dashes
    kind: Any  # of one value: int, float, str, Path, bool
    choices: tuple[Any, ...]  # of a Literal
    many: bool  # a tuple
    positional: bool
    required: bool


def options(command: str) -> list[Option]:
    return list(_options(getattr(module(command), "Options", None) or module(command).TrainConfig))


POSITIONAL = tyro.conf.Positional[int].__metadata__[0]  # type: ignore[attr-defined]


def _options(kind: Any) -> Iterator[Option]:
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        marks = getattr(hints[field.name], "__metadata__", ())
        hint = get_args(hints[field.name])[0] if marks else hints[field.name]
        if is_dataclass(hint):
            yield from _options(hint)
            continue
        required = field.default is MISSING and field.default_factory is MISSING
        one, choices, many = _plain(hint)
        yield Option(field.name.replace("_", "-"), one, choices, many, POSITIONAL in marks, required)


def _plain(hint: Any) -> tuple[Any, tuple[Any, ...], bool]:
    """Type of one value, its choices, and whether several are taken."""
    if hint is tuple:
        return str, (), True
    inner = [part for part in get_args(hint) if part not in (NoneType, Ellipsis)]
    if get_origin(hint) is Literal:
        return type(inner[0]), tuple(inner), False
    if get_origin(hint) in (tuple, Union, UnionType):
        kind, choices, many = _plain(inner[0])
        return kind, choices, many or get_origin(hint) is tuple
    return hint, (), False


def required_words(command: str) -> list[str]:
    """The least that the command line must hold."""
    taken = [option for option in options(command) if option.required]
    return ["x" for option in taken if option.positional] + [
        word for option in taken if not option.positional for word in (f"--{option.name}", "x")
    ]


# ---------------------------------------------------------------- for every command


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_how_to_call_it_and_every_option(command: str, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    ended = call(command, "--help")
    assert ended.code == 0 and ended.err == ""
    assert f"python -m {command}" in ended.out
    shown = set(re.findall(r"--([a-z0-9-]+)", ended.out))
    assert {option.name for option in options(command) if not option.positional} <= shown


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_named(command: str, call: Call) -> None:
    assert_one_line(call(command, "--no-such-option", "x"), "--no-such-option", f"python -m {command} --help")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_value_is_answered_with_its_option(command: str, call: Call) -> None:
    for option in options(command):
        if option.kind in (int, float) or option.choices:
            words = ["nonsense"] if option.positional else [*required_words(command), f"--{option.name}", "nonsense"]
            ended = call(command, *words)
            assert_one_line(ended, option.name.upper() if option.positional else f"--{option.name}")
            assert ", ".join(map(str, option.choices)) in ended.err and "None" not in ended.err


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_without_its_value_is_named(command: str, call: Call) -> None:
    option = next((one for one in options(command) if one.kind is not bool and not (one.positional or one.many)), None)
    if option:
        assert_one_line(call(command, *required_words(command), f"--{option.name}"), f"--{option.name}")


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_missing_is_named(command: str, call: Call) -> None:
    missing = [one for one in options(command) if one.required and not one.many]
    if missing:
        assert_one_line(call(command), *[one.name.upper() if one.positional else f"--{one.name}" for one in missing])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_misspelt_option_is_answered_with_the_right_one(command: str, call: Call) -> None:
    long = [one.name for one in options(command) if len(one.name) > 3 and not one.positional]
    for name in long[:: max(1, len(long) // 8)]:  # eight of each command
        wrong = name[:-3] + name[-2] + name[-3] + name[-1] if name[-2] != name[-3] else name[:-1]
        assert_one_line(call(command, f"--{wrong}", "x"), f"--{wrong}", f"--{name}")


def test_an_option_has_one_type_in_all_commands() -> None:
    # One word in two forms, each for its reason.
    forms = {
        ("flip", bool),  # of train.score: one system, so that there is nothing to name
        ("batch", str),  # of exports: 1 or dynamic
        ("out", str),  # of exports: a Path would lose the slash that marks a folder
        ("json", Path),  # of runtime.scan: a table that a later run goes on with
    }
    seen: dict[str, set[Any]] = {}
    for command in COMMANDS:
        for option in options(command):
            if not option.positional and (option.name, option.kind) not in forms:
                seen.setdefault(option.name, set()).add(option.kind)
    assert {name: kinds for name, kinds in seen.items() if len(kinds) > 1} == {}


def test_the_page_about_commands_lists_what_several_commands_share() -> None:
    page = (ROOT / "docs" / "commands.md").read_text("utf-8")
    listed = {name for cell in re.findall(r"(?m)^\| (`--.*?) \|", page) for name in re.findall(r"--([\w-]+)", cell)}
    users: dict[str, int] = {}
    for command in COMMANDS:
        for option in options(command):
            users[option.name] = users.get(option.name, 0) + (not option.positional)
    assert {name for name, count in users.items() if count > 2} - listed == set()


# ---------------------------------------------------------------- wrong paths, wrong values

# Words with one wrong path, marked by !, and the path that is there (tests/conftest.py makes the folder).
PATHS = [
    ("train --corpus !corpsu", "corpus"),
    ("train --corpus corpus --train-protocol !corpus/protocols/trian.txt", "corpus/protocols/train.txt"),
    ("train --corpus corpus --dev-protocol !corpus/protocol/dev.txt", "corpus/protocols/dev.txt"),
    ("train --corpus corpus --teacher-model !modle.pt", "model.pt"),
    ("train --corpus corpus --init !modle.pt", "model.pt"),
    ("train --corpus corpus --rir !room", "rooms"),
    ("train --corpus corpus --soft-labels !scroes.txt", "scores.txt"),
    ("train.teach !modle.pt", "model.pt"),
    ("train.average model.pt !modle.pt --out new.pt", "model.pt"),
    ("train.vocode --corpus !corpsu --by griffin-lim", "corpus"),
    ("train.vocode --corpus corpus --by !smal.onnx", "small.onnx"),
    ("train.score !modle.pt --corpus corpus", "model.pt"),
    ("train.score model.pt --corpus !corpsu", "corpus"),
    ("train.score model.pt --corpus corpus --protocol !corpus/protocols/evall.txt", "corpus/protocols/eval.txt"),
    ("train.score model.pt --corpus corpus --asv !avs.txt", "asv.txt"),
    ("train.score !score.txt", "scores.txt"),
    ("train.score scores.txt --asv !avs.txt", "asv.txt"),
    ("runtime.scan !cal.flac", "call.flac"),
    ("runtime.scan call.flac --model !smal.onnx", "small.onnx"),
    ("runtime.serve --stream-model !smal.onnx", "small.onnx"),
    ("runtime.service install --config !smal.json", "small.json"),
    ("export.onnx !modle.pt --precision fp32", "model.pt"),
    ("export.onnx model.pt --calibration !corpsu", "corpus"),
    ("export.onnx model.pt --precision fp32 --asv !avs.txt", "asv.txt"),
    ("export.trt !smal.onnx", "small.onnx"),
    ("export.triton !smal.onnx --out repository", "small.onnx"),
    ("runtime.stream --file !cal.flac", "call.flac"),
    ("runtime.stream --demo --model !smal.onnx", "small.onnx"),
    ("runtime.stream --demo --model !small.onx", "small.onnx"),
    ("benchmarks.accuracy !smal.onnx --corpus corpus", "small.onnx"),
    ("benchmarks.accuracy small.onnx --corpus !corpsu", "corpus"),
    ("benchmarks.accuracy --peer !smal.onnx --corpus corpus", "small.onnx"),
    ("benchmarks.accuracy --scores !score.txt", "scores.txt"),
    ("benchmarks.accuracy --scores scores.txt --asv !avs.txt", "asv.txt"),
    ("benchmarks.compare !repor report", "report"),
    ("benchmarks.latency !smal.onnx", "small.onnx"),
    ("benchmarks.latency --peer !smal.onnx", "small.onnx"),
    ("benchmarks.report !repor", "report"),
    ("benchmarks.report --into !pag.md", "page.md"),
    ("benchmarks.sharpness !modle.pt --corpus corpus --by attack", "model.pt"),
    ("benchmarks.sharpness model.pt --corpus !corpsu", "corpus"),
    ("benchmarks.stream !smal.onnx", "small.onnx"),
    ("benchmarks.stream --corpus !corpsu --seconds 2", "corpus"),
    ("benchmarks.stream --streams 2 --corpus !corpsu", "corpus"),
    ("benchmarks.stream --alarms --corpus !corpsu", "corpus"),
    ("benchmarks.training --corpus !corpsu", "corpus"),
]
READ_NOTHING = {"benchmarks.host"}

# Words, and what the line must name: the option or file, and the command or package that helps.
WRONG = [
    ("train --corpus corpus --out run", ["run", "--resume", "--out"]),
    ("train --corpus corpus --out call.flac/x", ["--out call.flac/x"]),
    ("train --corpus corpus --cache call.flac", ["--cache call.flac"]),
    ("train --corpus corpus --batch 1", ["--batch 1"]),
    ("train --corpus corpus --rho -1", ["--rho -1"]),
    ("train --corpus corpus --leave-out 4/3", ["--leave-out 4/3"]),
    ("train --corpus corpus --soft-labels scores.txt", ["scores.txt"]),
    ("train.teach", ["model.pt"]),
    ("train.teach model.pt --folds 1", ["--folds 1"]),
    ("train.score model.pt --corpus corpus --exit 5", ["--exit 5", "4"]),
    ("train.score model.pt --corpus corpus --protocol bare.txt", ["--out"]),
    ("train.score model.pt --corpus corpus --device tpu", ["--device tpu"]),
    ("train.vocode --corpus corpus --by wrld", ["--by wrld", "world"]),
    ("train.vocode --corpus corpus --by", ["--by"]),
    ("train.vocode --corpus corpus --by lyra", ["--lyra"]),
    ("train.vocode --corpus corpus --by empty.onnx", ["empty.onnx"]),
    ("train --corpus corpus --pair-loss 1 --specmix 1", ["--pair-loss", "--specmix"]),
    ("train --corpus corpus --pair-loss 1", ["--pair-loss", "train.vocode"]),
    ("train.score empty.txt", ["empty.txt"]),
    ("train.score folder.txt", ["folder.txt"]),
    ("export.onnx folder.txt --precision fp32", ["folder.txt"]),
    ("export.onnx empty.txt --precision fp32", ["empty.txt"]),
    ("export.onnx model.pt", ["--calibration", "--precision fp32"]),
    ("export.onnx model.pt --qat -1", ["--qat -1"]),
    ("export.trt folder.onnx", ["folder.onnx", "export.onnx"]),
    ("export.trt empty.onnx", ["empty.onnx"]),
    ("export.trt small.onnx", ["small.onnx", "--target tensorrt"]),
    ("export.trt small.onnx --workspace 0", ["--workspace 0"]),
    ("export.triton f0 --out repository --max-batch 0", ["--max-batch 0"]),
    ("export.triton fo --out repository", ["fo", "f0"]),
    ("runtime.scan", []),
    ("runtime.scan rooms", ["rooms"]),
    ("runtime.scan call.flac --workers 0", ["--workers 0"]),
    ("runtime.scan call.flac --every 9", ["--every 9"]),
    ("runtime.scan call.flac --prior 2", ["prior"]),
    ("runtime.scan call.flac --threads -1", ["--threads -1"]),
    ("runtime.scan call.flac --csv page.md", ["page.md", "--overwrite"]),
    ("runtime.scan call.flac --csv x.csv --json x.json", ["--csv", "--json"]),
    ("runtime.serve --host 0.0.0.0", ["--host 0.0.0.0", "--token-file"]),
    ("runtime.serve --token short", ["--token"]),
    ("runtime.serve --token-file empty.txt", ["empty.txt"]),
    ("runtime.serve --tls-cert page.md", ["--tls-key"]),
    ("runtime.serve --tls-cert page.md --tls-key page.md", ["--tls-cert page.md"]),
    ("runtime.serve --port 70000", ["--port 70000"]),
    ("runtime.serve --max-streams -1", ["--max-streams -1"]),
    ("runtime.serve --backend triton", ["--triton-url"]),
    ("runtime.serve --backend triton --triton-url gpu:8001", ["gpu:8001", "grpc://"]),
    ("runtime.serve --backend triton --triton-url grpc://127.0.0.1:9", ["grpc://127.0.0.1:9"]),
    ("runtime.serve --stream-model edg", ["edg", "edge"]),
    ("runtime.stream", ["--mic", "--file", "--stdin", "--demo"]),
    ("runtime.stream --microphone", ["--microphone", "--mic?"]),
    ("runtime.stream call.flac", ["--file call.flac"]),
    ("runtime.stream --file call.flac call.flac --record x.flac", ["--record", "--file"]),
    ("runtime.stream --demo --record x.wav", ["--record x.wav", ".flac"]),
    ("runtime.stream --demo --record call.flac/x.flac", ["call.flac/x.flac"]),
    ("runtime.stream --demo --plot x.txt", ["--plot x.txt"]),
    ("runtime.stream --file silent.wav", ["silent.wav"]),
    ("runtime.stream --file folder.txt", ["folder.txt"]),
    ("runtime.stream --demo --step 5000", ["step"]),
    ("runtime.stream --demo --prior 2", ["prior"]),
    ("runtime.stream --demo --engine onx", ["--engine onx", "onnx"]),
    ("runtime.stream --demo --provider cuad", ["--provider cuad"]),
    ("benchmarks.accuracy", ["--scores"]),
    ("benchmarks.accuracy f0", ["--corpus"]),
    ("benchmarks.accuracy f0 --jobs 2", ["--jobs"]),
    ("benchmarks.accuracy f0 --corpus corpus --workers -1", ["--workers -1"]),
    ("benchmarks.accuracy f0 --corpus corpus --exit 2", ["--exit", "f0"]),
    ("benchmarks.accuracy ff0 --corpus corpus", ["ff0", "f0"]),
    ("benchmarks.accuracy f0 --corpus corpus --peer-input mel:80", ["--peer-input mel:80"]),
    ("benchmarks.accuracy f0 --corpus corpus corpus", []),
    ("benchmarks.accuracy f0 --corpus corpus corpus --protocol bare.txt", ["--protocol"]),
    ("benchmarks.stream f0 --alarms", ["--alarms", "--corpus"]),
    ("benchmarks.stream f0 --alarms --corpus corpus --streams 2", ["--streams"]),
    ("benchmarks.stream f0 --alarms --corpus corpus --budget -1", ["--budget -1"]),
    ("benchmarks.accuracy f0 --corpus corpus --partition eval --protocol bare.txt", []),
    ("benchmarks.accuracy --scores asv.txt --asv asv.txt", ["--scores", "--asv"]),
    ("benchmarks.accuracy --scores scores.txt --flip score", ["--flip score", "scores"]),
    ("benchmarks.compare report report --tolerance -1", ["--tolerance -1"]),
    ("benchmarks.compare report damaged", ["damaged/report.json"]),
    ("benchmarks.latency --batch 0", ["--batch"]),
    ("benchmarks.latency --peer-shape a=1", ["--peer-shape", "--peer"]),
    ("benchmarks.report", ["--into"]),
    ("benchmarks.report --into folder.txt", ["folder.txt"]),
    ("benchmarks.sharpness model.pt --corpus corpus --batch 3", ["--batch 3"]),
    ("benchmarks.sharpness model.pt --corpus corpus --partition eval --protocol bare.txt", []),
    ("benchmarks.stream --seconds 1", ["--seconds 1"]),
    ("benchmarks.stream --streams 0", ["--streams"]),
]


@pytest.fixture(scope="module")
def odd(there: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with one of everything, and with files that people name by mistake."""
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


def test_every_command_that_reads_files_is_tried_with_a_wrong_path() -> None:
    assert {words.split()[0] for words, _ in PATHS} == {*COMMANDS} - READ_NOTHING


@pytest.mark.parametrize(("words", "meant"), PATHS, ids=[words for words, _ in PATHS])
def test_a_wrong_path_is_answered_with_the_one_that_is_there(
    words: str, meant: str, there: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(there)
    command, *rest = words.replace("!", "").split()
    wrong = words.partition("!")[2].split()[0]
    out = ["--out", str(tmp_path / "out")] * any(option.name == "out" for option in options(command))
    ended = call(command, *rest, *out)
    assert_error(ended, Path(wrong).name, f"{meant}?" if not (there / meant / "model.pt").is_file() else meant)


@pytest.mark.parametrize(("words", "named"), WRONG, ids=[words for words, _ in WRONG])
def test_what_a_user_can_get_wrong_is_one_line(
    words: str, named: list[str], odd: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(odd)
    assert_error(call(*words.split()), *named)


@pytest.mark.parametrize("words", [["--model", "none.pt"], ["--model=none.pt"], ["none.pt"]])
def test_a_model_may_come_with_its_name(words: list[str], call: Call) -> None:
    assert_one_line(call("train.score", "--corpus", "none", *words), "none.pt")


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, call: Call) -> None:
    closed = tmp_path / "closed.txt"
    closed.write_text("u1 - bonafide 1.5\n")
    closed.chmod(0)
    assert_one_line(call("train.score", str(closed)), "closed.txt")


# ---------------------------------------------------------------- programs that are missing


@pytest.mark.parametrize(
    ("error", "help"),
    [
        (OSError("PortAudio library not found"), "sudo apt install libportaudio2"),
        (ImportError("No module named 'sounddevice'"), "pip install"),
    ],
)
@pytest.mark.parametrize("option", ["--mic", "--list-devices"])
def test_a_missing_system_package_is_named_with_its_command(
    option: str, error: Exception, help: str, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise error

    module("runtime.stream")
    monkeypatch.setattr(importlib, "import_module", missing)
    assert_error(call("runtime.stream", option), help)


def test_a_missing_ffmpeg_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from train.augment import codecs

    monkeypatch.setattr(codecs.shutil, "which", lambda name: None)
    with pytest.raises(ShrikeError, match="sudo apt install ffmpeg"):
        codecs.run_ffmpeg([], b"")
    _, refused = codecs.available(["amr"], 16_000)
    assert len(refused) == 1 and "sudo apt install ffmpeg" in refused[0]


# ---------------------------------------------------------------- real processes that lose their output or are stopped

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
# One of each kind of output: a stream of JSON, help, tables.
WRITERS = ["runtime.stream --file call.flac --json", "runtime.stream --help", "benchmarks.compare report report --all"]


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = ["bash", "-o", "pipefail", "-c", line.replace("python", sys.executable, 1)]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120, env=ENVIRONMENT)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", WRITERS)
def test_a_full_disk_is_one_line(words: str, there: Path) -> None:
    done = shell(f"python -m {words} > /dev/full", there)
    assert done.returncode == 2 and re.search(r"(?mi)^error: .*no space left", done.stderr), done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


@pytest.mark.parametrize("words", WRITERS)
def test_a_reader_that_leaves_is_a_normal_end(words: str, there: Path) -> None:
    done = shell(f"python -m {words} | sleep 0", there)  # reads nothing and ends first
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "rror" not in done.stderr


@pytest.mark.parametrize("words", ["runtime.stream --file call.flac --json >&-", "runtime.stream --stdin <&-"])
def test_closed_standard_streams_give_no_traceback(words: str, there: Path) -> None:
    done = shell(f"python -m {words}", there)
    assert done.returncode in (0, 2, 5) and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("runtime.stream --file call.flac call.flac call.flac --realtime", 0),  # flushed and summed up
        ("train --corpus corpus --out interrupted --cache cache", 130),
        ("benchmarks.latency f0 --seconds 60 --out never", 130),
    ],
)
def test_ctrl_c_ends_without_a_traceback(words: str, code: int, there: Path) -> None:
    """The signal goes to the whole group, as from a terminal, once the command writes: workers receive it as well."""
    with subprocess.Popen(
        [sys.executable, "-m", *words.split()],
        cwd=there, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    ) as running:  # fmt: skip
        assert running.stdout is not None and running.stderr is not None
        assert select.select([running.stdout, running.stderr], [], [], 300)[0] and running.poll() is None
        os.killpg(running.pid, signal.SIGINT)
        _, err = running.communicate(timeout=120)
    assert running.returncode == code, err
    assert "Traceback" not in err and (code == 0 or "stopped" in err.splitlines()[-1]), err


@pytest.mark.parametrize(
    "words",
    [
        "runtime.stream --file ä日.flac --json",
        "runtime.stream --file ä日.flac",
        "runtime.scan ä日.flac",
        "train.score ü.txt",
    ],
)
def test_a_locale_without_utf8_gives_escapes_and_no_traceback(words: str, there: Path) -> None:
    shutil.copy(there / "call.flac", there / "ä日.flac")
    (there / "ü.txt").write_text("1 Ä1 spoof 0\n2 - bonafide 1\n3 - bonafide 2\n", "utf-8")
    plain = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [sys.executable, "-m", *words.split()], cwd=there, capture_output=True, timeout=120, env=ENVIRONMENT | plain
    )
    assert b"Traceback" not in done.stderr and b"Error" not in done.stderr, done.stderr
    assert done.stdout.isascii() and done.stderr.isascii() and b"\\" in done.stdout + done.stderr
    if "--json" in words:
        assert all(json.loads(line).get("source", "ä日.flac") == "ä日.flac" for line in done.stdout.splitlines())


def test_a_terminal_as_standard_input_is_refused(there: Path) -> None:
    ours, theirs = os.openpty()
    try:
        words = [sys.executable, "-m", "runtime.stream", "--stdin"]
        done = subprocess.run(
            words, stdin=theirs, cwd=there, capture_output=True, text=True, timeout=60, env=ENVIRONMENT
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert_error(Ended(done.returncode, done.stdout, done.stderr), "--stdin")
