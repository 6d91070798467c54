"""One voice: what means the same is called the same in every command, and every command answers a slip in one line."""

import ast
import importlib
import inspect
import re
import sys
import textwrap
from dataclasses import is_dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

import runtime.support.command
from runtime.support.errors import ShrikeError
from runtime.support.usage_errors import OTHER_NAMES, names
from tests.test_house import COMMANDS

ROOT = Path(__file__).resolve().parent.parent

# What a shared option takes, and how its help begins wherever it stands. docs/commands.md lists them.
SHARED: dict[str, tuple[type, str]] = {
    "corpus": (Path, "Folder of the corpus"),
    "partition": (str, "Which of its protocols"),
    "protocol": (Path, "A protocol file instead of the corpus's own"),
    "subset": (str, "Of ASVspoof 2021's protocols, which subsets"),
    "only": (str, "Only trials whose row in the corpus's metadata.csv says so"),
    "by": (str, "Column"),
    "out": (Path, "Folder |File "),
    "overwrite": (bool, "Replace the report that stands there"),
    "json": (bool, "Results as JSON on stdout"),
    "cache": (Path, "Where features are kept between runs; safe to delete"),
    "device": (str, "auto, cpu, cuda or cuda:N|Which microphones"),
    "threads": (int, "CPU threads of the network"),
    "workers": (int, "Processes that "),
    "seed": (int, "Everything random follows from it"),
    "bootstrap": (int, "Resamples behind every 95 % interval"),
    "asv": (Path, "The organisers' speaker-verification scores, for min t-DCF"),
    "batch": (int, "(Windows|Trials) at once"),
    "streams": (int, "Streams at once"),
    "seconds": (float, "Seconds "),
    "rounds": (int, "How often"),
    "step": (int, "Frames of 8.125 ms between two verdicts"),
    "exit": (int, "4: the whole network. 1 to 3: "),
    "windows": (str, "first: the first 600 frames, as published. mean: over windows"),
    "network": (str, "ecanet9, 18, 34, 50; "),
    "width": (float, "Factor on every channel count"),
    "frontend": (str, "f0: the lowest 45 bins, 0-417 Hz, as published. wide: 60 bands over 0-8 kHz."),
    "distill": (str, "off trains the same network plainly"),
    "streaming": (bool, "Look back only and remember"),
    "precision": (str, "What the network computes in"),
    "rho": (float, "Radius of the ball around the weights"),
    "flip": (str, "Multiply the scores by -1"),
}
# One word in two senses, or in another form, each for its reason.
OTHER_TYPES = {
    ("train.evaluate.summary", "flip"): bool,  # one system, so that there is nothing to name
    ("export.onnx", "batch"): str,  # a choice: 1 or dynamic
    ("export.trt", "batch"): str,
    ("export.onnx", "out"): str,  # a Path would lose the slash that says: a folder
    ("export.trt", "out"): str,
}


@lru_cache
def module(command: str) -> ModuleType:
    main = ROOT / Path(*command.split(".")) / "__main__.py"
    return importlib.import_module(f"{command}.__main__" if main.is_file() else command)


def options(command: str) -> Any:
    return getattr(module(command), "Options", None) or module(command).Settings


def described(kind: Any) -> dict[str, tuple[type, str]]:
    """Option -> what it takes and its help, the docstring below its field."""
    helps, found = dict[str, str](), dict[str, tuple[type, str]]()
    for base in reversed([base for base in kind.__mro__ if is_dataclass(base)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body  # type: ignore[attr-defined]
        for field, text in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                helps[field.target.id] = str(text.value.value)  # type: ignore[union-attr]
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            found |= described(hint)
        else:
            found[name.replace("_", "-")] = plain(hint), helps.get(name, "")
    return found


def plain(hint: Any) -> type:
    """One value of an option: what stands in Optional, tuple and Literal."""
    inner = [part for part in get_args(hint) if part not in (NoneType, Ellipsis)]
    if get_origin(hint) is Literal:
        return type(inner[0])
    return plain(inner[0]) if get_origin(hint) in (tuple, Union, UnionType) else hint


def in_process(command: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", [command, *words])
    return module(command).main() or 0


@pytest.mark.parametrize("command", COMMANDS)
def test_what_means_the_same_is_called_the_same(command: str) -> None:
    found = described(options(command))
    for name, (kind, beginning) in SHARED.items():
        if name in found and name in names(options(command))[1]:
            took, told = found[name]
            expected = OTHER_TYPES.get((command, name), kind)
            assert took is expected or took is tuple, f"{command} --{name} takes {took}, not {expected}"
            assert re.match(beginning, told), f"{command} --{name}: {told!r} does not begin with {beginning!r}"
    foreign = {other for others in OTHER_NAMES.values() for other in others} & found.keys()
    assert not foreign, f"{command}: {foreign} have another name elsewhere (runtime/support/usage_errors.py)"


def test_an_option_of_two_commands_stands_in_the_table_or_is_told_alike() -> None:
    seen: dict[str, dict[str, str]] = {}
    for command in COMMANDS:
        for name, (_, told) in described(options(command)).items():
            if name in names(options(command))[1]:
                seen.setdefault(name, {})[command] = told
    for name, told in seen.items():
        if len(told) > 1 and name not in SHARED:
            assert len(set(told.values())) == 1, f"--{name} has several meanings: {told}"
    assert {name for name in SHARED if len(seen.get(name, ())) < 2} == set()


def test_the_page_about_commands_lists_what_they_share() -> None:
    page = (ROOT / "docs" / "commands.md").read_text("utf-8")
    listed = {name for cell in re.findall(r"(?m)^\| (`--.*?) \|", page) for name in re.findall(r"--([\w-]+)", cell)}
    assert set(SHARED) <= listed, set(SHARED) - listed


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_it_does_first_and_ends_with_examples(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        in_process(command, ["--help"], monkeypatch)
    assert not end.value.code
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: python -m {command} ")
    first = (module(command).__doc__ or "").splitlines()[0]
    assert len(first) <= 120 and first.endswith((".", "?")) and first in shown
    assert re.search(rf"\nexamples:\n(  \S.*\n)*  python -m {command}\b", shown)
    assert "{None}" not in shown and "--no-" not in shown
    for name, (_, told) in described(options(command)).items():
        assert told.endswith((".", "?")) and "\n" not in told, f"{command} --{name}: {told!r}"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_misspelt_option_is_answered_with_the_right_one(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in names(options(command))[1]:
        if len(name) < 4:
            continue
        wrong = name[:-3] + name[-2] + name[-3] + name[-1] if name[-2] != name[-3] else name[:-1]
        with pytest.raises(ShrikeError) as error:
            in_process(command, [f"--{wrong}", "x"], monkeypatch)
        assert str(error.value) == (
            f"--{wrong}: no such option; did you mean --{name}? (python -m {command} --help shows all options)"
        )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("runtime.stream --output x --demo", "--output: no such option (python"),
        ("runtime.stream --microphone", "--microphone: no such option; did you mean --mic? ("),
        ("runtime.stream call.flac", "call.flac: only options were expected there; did you mean --file call.flac? ("),
        ("runtime.stream --demo --engine onx", "--engine onx: auto, onnx, tensorrt were expected; did you mean onnx?"),
        ("runtime.stream --demo --threads two", "--threads two: a whole number was expected ("),
        ("runtime.stream --demo --step two", "--step two: a whole number was expected ("),
        ("runtime.stream --demo --sure x", "--sure x: a number was expected ("),
        ("runtime.stream --stdin --rate", "--rate: a value was expected ("),
        ("train", "--corpus PATH is missing (python -m train --help"),
        ("train --data /data/LA", "--data: no such option; did you mean --corpus? ("),
        ("train --corpus a --noise -90", "--noise '-90': 2 values were expected ("),
        ("train.score", "MODEL and --corpus PATH are missing ("),
        ("train.score a.pt --corpus b --subset evil", "--subset evil: progress, eval, hidden were expected; did you"),
        ("benchmarks.compare a", "AFTER is missing ("),
        ("benchmarks.accuracy f0 --jobs 2", "--jobs: no such option; did you mean --workers? ("),
        ("benchmarks.streams f0 --most 2", "--most: no such option; did you mean --batch? ("),
        ("benchmarks.latency --threads 1 x", "--threads"),
        ("export.onnx", "MODEL is missing ("),
    ],
)
def test_a_wrong_command_line_is_answered_in_one_line(
    words: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *rest = words.split()
    with pytest.raises(ShrikeError) as error:
        in_process(command, rest, monkeypatch)
    told = str(error.value)
    assert sentence in told and told.endswith(f"(python -m {command} --help shows all options)")
    assert "\n" not in told and not set(told) & set("│╭─"), told
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("words", [["--model", "none.pt"], ["--model=none.pt"], ["none.pt"]])
def test_a_model_may_come_with_its_name(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ShrikeError, match=r"none\.pt does not exist"):
        in_process("train.score", ["--corpus", "none", *words], monkeypatch)


def test_several_models_may_come_with_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = runtime.support.command._unnamed(
        options("benchmarks.accuracy"), ["--scores", "s", "--model", "a", "b", "--seed", "1"]
    )
    assert taken == ["a", "b", "--scores", "s", "--seed", "1"]
    kept = ["--demo", "--model", "a"]
    assert runtime.support.command._unnamed(options("runtime.stream"), kept) == kept


PATHS = [  # words with one wrong path, which begins with a !, and what is there
    ("train --corpus !corpsu", "corpus"),
    ("train --corpus corpus --train-protocol !corpus/protocols/trian.txt", "corpus/protocols/train.txt"),
    ("train --corpus corpus --dev-protocol !corpus/protocol/dev.txt", "corpus/protocols/dev.txt"),
    ("train --corpus corpus --teacher-model !modle.pt", "model.pt"),
    ("train --corpus corpus --rir !room", "rooms"),
    ("train.score !modle.pt --corpus corpus", "model.pt"),
    ("train.score model.pt --corpus !corpsu", "corpus"),
    ("train.score model.pt --corpus corpus --protocol !corpus/protocols/evall.txt", "corpus/protocols/eval.txt"),
    ("train.score model.pt --corpus corpus --asv !avs.txt", "asv.txt"),
    ("train.evaluate.summary !score.txt", "scores.txt"),
    ("train.evaluate.summary scores.txt --asv !avs.txt", "asv.txt"),
    ("export.onnx !modle.pt --precision fp32", "model.pt"),
    ("export.onnx model.pt --calibration !corpsu", "corpus"),
    ("export.onnx model.pt --precision fp32 --asv !avs.txt", "asv.txt"),
    ("export.trt !smal.onnx", "small.onnx"),
    ("runtime.stream --file !cal.flac", "call.flac"),
    ("runtime.stream --demo --model !smal.onnx", "small.onnx"),
    ("runtime.stream --demo --model !small.onx", "small.onnx"),
    ("benchmarks.accuracy !smal.onnx --corpus corpus", "small.onnx"),
    ("benchmarks.accuracy small.onnx --corpus !corpsu", "corpus"),
    ("benchmarks.accuracy --scores !score.txt", "scores.txt"),
    ("benchmarks.accuracy --scores scores.txt --asv !avs.txt", "asv.txt"),
    ("benchmarks.compare !repor report", "report"),
    ("benchmarks.drift !modle.pt small.onnx --corpus corpus", "model.pt"),
    ("benchmarks.drift model.pt !smal.onnx --corpus corpus", "small.onnx"),
    ("benchmarks.drift model.pt small.onnx --corpus !corpsu", "corpus"),
    ("benchmarks.experiments !rum", "run"),
    ("benchmarks.latency !smal.onnx", "small.onnx"),
    ("benchmarks.latency --peer !smal.onnx", "small.onnx"),
    ("benchmarks.report !repor", "report"),
    ("benchmarks.report --into !pag.md", "page.md"),
    ("benchmarks.sharpness !modle.pt --corpus corpus", "model.pt"),
    ("benchmarks.sharpness model.pt --corpus !corpsu", "corpus"),
    ("benchmarks.stream !smal.onnx", "small.onnx"),
    ("benchmarks.stream --corpus !corpsu --seconds 2", "corpus"),
    ("benchmarks.streams !smal.onnx", "small.onnx"),
    ("benchmarks.streams --corpus !corpsu", "corpus"),
    ("benchmarks.training --corpus !corpsu", "corpus"),
]


def test_every_command_that_reads_has_a_wrong_path() -> None:
    assert {*COMMANDS} - {words.split()[0] for words, _ in PATHS} == {
        "benchmarks.host", "train.networks"  # which read nothing
    }  # fmt: skip


@pytest.mark.parametrize(("words", "meant"), PATHS, ids=[words for words, _ in PATHS])
def test_a_wrong_path_is_answered_with_the_one_that_is_there(
    words: str, meant: str, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(there)
    monkeypatch.setenv("HOME", str(tmp_path))  # for the cache
    command, *rest = words.replace("!", "").split()
    wrong = words.partition("!")[2].split()[0]
    taken = names(options(command))[1]
    out = ["--out", str(tmp_path / "out")] * ("out" in taken)
    with pytest.raises(ShrikeError) as error:
        in_process(command, [*rest, *out], monkeypatch)
    told = str(error.value)
    assert wrong in told or Path(wrong, "model.pt").as_posix() in told, told
    assert re.search(rf"; did you mean (/\S*/)?{re.escape(meant)}(/model\.pt)?\?$", told), told
    assert "\n" not in told
