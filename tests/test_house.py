"""The house itself: who may know whom, and commands that answer before anything heavy is loaded."""

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ["runtime", "train", "export", "benchmarks"]  # an import only ever goes to the left
HEAVY = {"torch", "torchaudio", "onnx", "tensorrt", "pycuda", "sounddevice", "matplotlib", "scipy", "onnxruntime"}
COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for floor in FLOORS
    for path in (ROOT / floor).rglob("*.py")
    if re.search(r'^if __name__ == "__main__":', path.read_text("utf-8"), re.MULTILINE)
)


def imports(path: Path) -> set[str]:
    """Top-level names of everything a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_go_one_way(floor: str) -> None:
    above = set(FLOORS[FLOORS.index(floor) + 1 :])
    for path in (ROOT / floor).rglob("*.py"):
        assert not imports(path) & above, path


def test_runtime_never_imports_torch() -> None:
    for path in (ROOT / "runtime").rglob("*.py"):
        assert not imports(path) & {"torch", "torchaudio"}, path


def test_the_commands_are_the_ones_we_promise() -> None:
    promised = {
        "train",
        "train.score",
        "train.summary",
        "train.networks",
        "export.onnx",
        "export.trt",
        "runtime.stream",
        "benchmarks.latency",
        "benchmarks.compare",
        "benchmarks.report",
    }
    assert promised <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_answers_without_loading_anything_heavy(command: str) -> None:
    program = (
        "import runpy, sys\n"
        "sys.argv = ['x', '--help']\n"
        "try:\n    runpy.run_module(%r, run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n    print('heavy:', sorted(set(sys.modules) & %r), 'code:', end.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", program % (command, HEAVY)], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.endswith("heavy: [] code: 0\n"), done.stdout[-300:] + done.stderr
    assert f"python -m {command}" in done.stdout  # help shows how to run it


def test_no_audio_engine_or_wheel_is_tracked() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not re.findall(r"^.*\.(?:wav|flac|mp3|ogg|engine|plan|whl|pyc)$", tracked, re.MULTILINE)


def test_the_version_stands_in_one_place() -> None:
    from runtime import __version__

    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["metadata"]["version"] == "attr: runtime.__version__"
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    assert "torch" not in config["options"]["install_requires"]
