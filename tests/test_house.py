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


MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for floor in FLOORS
    for path in (ROOT / floor).rglob("*.py")
}


def needed(module: str) -> set[str]:
    """Modules of ours that must be loaded before this one is: what is imported in functions, or for types, is not."""
    found, waiting = set(), list[ast.AST](ast.parse(MODULES[module].read_text("utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner if inner <= MODULES.keys() else {node.module}
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return found & MODULES.keys()


def reached(module: str) -> set[str]:
    found: set[str] = set()
    waiting = [module]
    while waiting:
        new = needed(waiting.pop()) - found
        found |= new
        waiting += new
    return found


def test_no_module_needs_itself() -> None:
    assert [module for module in MODULES if module in reached(module)] == []


@pytest.mark.parametrize("room", ["runtime.sources", "runtime.sinks", "runtime.verdict", "runtime.audio.features"])
def test_sources_sinks_and_verdicts_know_nothing_of_engines(room: str) -> None:
    """They meet in runtime.session alone."""
    theirs = {name for module in MODULES if module.startswith(room) for name in reached(module)}
    assert [
        name for name in theirs if name.startswith(("runtime.engines", "runtime.multi_stream", "runtime.session"))
    ] == []


def test_runtime_never_imports_torch() -> None:
    for path in (ROOT / "runtime").rglob("*.py"):
        assert not imports(path) & {"torch", "torchaudio"}, path


def test_the_commands_are_the_ones_we_promise() -> None:
    promised = {
        "train",
        "train.score",
        "train.evaluate.summary",
        "train.networks",
        "export.onnx",
        "export.trt",
        "runtime.stream",
        "benchmarks.accuracy",
        "benchmarks.stream",
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
