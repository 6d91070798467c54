"""The structure of the repository: imports run one way, help loads nothing heavy, folders and names stay few."""

import ast
import configparser
import re
import subprocess
import sys
from collections import defaultdict
from functools import lru_cache
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


@lru_cache
def needed(module: str) -> set[str]:
    """Modules of ours that load before this one: not those that it imports in functions or for types."""
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


def test_imports_have_no_cycle() -> None:
    assert [module for module in MODULES if module in reached(module)] == []


@pytest.mark.parametrize("room", ["runtime.sources", "runtime.sinks", "runtime.verdict", "runtime.audio.features"])
def test_sources_sinks_and_verdicts_import_no_engine(room: str) -> None:
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


IMPORTED = {"benchmarks.report"}  # the type of every report, and the command that shows one


def test_no_command_imports_another_command() -> None:
    """A package with a `__main__` may be imported, its `__main__` not."""
    files = {command: MODULES.get(f"{command}.__main__", MODULES.get(command)) for command in COMMANDS}
    others = {f"{name}.__main__" if path.name == "__main__.py" else name for name, path in files.items()} - IMPORTED
    assert {name: found for name, path in files.items() if (found := imported(path) & others)} == {}


def imported(path: Path) -> set[str]:
    """Modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


MOST_MODULES = 12  # of a folder, beside __init__.py


def test_a_folder_has_at_most_a_dozen_modules() -> None:
    folders = defaultdict(set)
    for path in MODULES.values():
        if path.name != "__init__.py":
            folders[path.parent.relative_to(ROOT).as_posix()].add(path.name)
    assert {name: len(files) for name, files in folders.items() if len(files) > MOST_MODULES} == {}


# Classes of one name in several modules, each with its reason.
SHARED_NAMES = {"Options"}  # the dataclass of every command's options: docs and tests find it by this name
# to be renamed
SHARED_NAMES |= {"Stream", "Score", "Block", "Source", "Model", "Result"}


def test_a_class_name_means_one_thing() -> None:
    places = defaultdict(list)
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module)
    assert {name: where for name, where in places.items() if len(where) > 1 and name not in SHARED_NAMES} == {}


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


def test_no_audio_engine_or_wheel_is_tracked() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^.*\.(?:wav|flac|mp3|ogg|opus|engine|plan|whl|pyc)$", tracked, re.MULTILINE)
    assert set(found) == {f"runtime/sources/demo/{passage}.flac" for passage in ("real", "fake")}


def test_the_version_stands_in_one_place() -> None:
    from runtime import __version__

    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["metadata"]["version"] == "attr: runtime.__version__"
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", __version__)
    assert "torch" not in config["options"]["install_requires"]
