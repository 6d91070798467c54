"""The console command `shrike` runs every module that `python -m` runs, under its own name."""

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import __version__
from runtime.cli import COMMANDS, main
from runtime.support.extras import DISTRIBUTION, EXTRAS

ROOT = Path(__file__).resolve().parents[2]


def shrike(*words: str, without: str = "") -> subprocess.CompletedProcess[str]:
    """Run the console command in a process of its own, where the package `without` is not installed."""
    program = f"import sys; sys.argv = ['shrike', *{words!r}]; sys.modules.update(dict.fromkeys({without.split()!r}))"
    return subprocess.run(
        [sys.executable, "-c", f"{program}; from runtime.cli import main; main()"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def called(*words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["shrike", *words])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0), *capsys.readouterr()


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for words in ((), ("--help",)):
        code, out, err = called(*words, capsys=capsys, monkeypatch=monkeypatch)
        assert (code, err) == (0, "")
        assert all(any(line.split()[:1] == [name] for line in out.splitlines()) for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_subcommand_helps_under_its_own_name(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = called(name, "--help", capsys=capsys, monkeypatch=monkeypatch)
    module = COMMANDS[name][0].removesuffix(".__main__")
    assert code == 0 and f"shrike {name}" in out and f"python -m {module} " not in out
    assert called(name, "--version", capsys=capsys, monkeypatch=monkeypatch) == (
        0,
        f"{DISTRIBUTION} {__version__}\n",
        "",
    )
    code, out, err = called(name, "--no-such-option", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 2 and err.count("\n") == 1 and f"shrike {name} --help" in err


def test_an_unknown_subcommand_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = called("strem", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 2 and out == "" and err.count("\n") == 1 and "stream?" in err


def test_the_version_of_the_whole_and_of_a_module() -> None:
    assert shrike("--version").stdout == f"{DISTRIBUTION} {__version__}\n"
    done = subprocess.run(
        [sys.executable, "-m", "runtime.stream", "--version"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, f"{DISTRIBUTION} {__version__}\n")


@pytest.mark.parametrize(
    ("words", "package"),
    [
        ("score model.pt --corpus tests", "torch"),
        ("train --corpus tests", "torch"),
        ("export-onnx model.pt --precision fp32", "torch"),
        ("stream --demo --plot plot.png", "matplotlib"),
        ("bench-accuracy model.pt --corpus tests", "train"),
        ("export-trt model.onnx", "export"),
    ],
)
def test_a_missing_package_is_one_line_with_the_pip_command(words: str, package: str, tmp_path: Path) -> None:
    for name in ("model.pt", "model.onnx"):
        (tmp_path / name).write_bytes(b"x")
    done = shrike(*[str(tmp_path / word) if "." in word else word for word in words.split()], without=package)
    *before, line = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith("error: ") and "Traceback" not in before, done.stderr
    extra = f"[{EXTRAS[package]}]" if package in EXTRAS else ""
    assert f"pip install '{DISTRIBUTION}{extra}'" in line or line.endswith(f"pip install {DISTRIBUTION}")


def test_setup_cfg_has_the_entry_point_the_name_and_every_extra() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["metadata"]["name"] == DISTRIBUTION
    assert "shrike = runtime.cli:main" in config["options.entry_points"]["console_scripts"]
    assert set(EXTRAS.values()) <= set(config["options.extras_require"])
    assert all(f"{DISTRIBUTION}[" in line or "shrike" not in line for line in config["options.extras_require"].values())
