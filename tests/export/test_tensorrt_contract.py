"""Every TensorRT name in our sources exists in every version we claim, or stands behind a hasattr that is needed.

tensorrt-api.tsv is the part of NVIDIA's own names that we touch. Where the whole table lies beside the repository,
`python tests/export/test_tensorrt_contract.py` writes that part anew, and a test holds both against each other.
"""

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(Path(__file__).parent))  # where this file is run as a script

from mock_tensorrt import TABLE, VERSIONS, read_table  # noqa: E402

MATRIX = Path(os.environ.get("SHRIKE_TENSORRT_MATRIX", ROOT.parent / "shared" / "tensorrt" / "api-matrix.tsv"))
SOURCES = ("runtime", "export", "benchmarks")

# What our variables hold. A TensorRT object under another name would go unchecked, so each file that takes `trt` is
# listed by the names it may use: test_no_tensorrt_object_goes_by_another_name.
OBJECTS = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "cache": "ITimingCache",
    "window": "ITensor",
    "complaint": "ParserError",
    "engine": "ICudaEngine",
    "_engine": "ICudaEngine",
    "_context": "IExecutionContext",
    "_runtime": "Runtime",
    "inspector": "EngineInspector",
}
# Calls that give such an object, and so the only right-hand sides it may come from.
MAKERS = {
    "Builder": "Builder",
    "open_builder": "Builder",
    "create_network": "INetworkDefinition",
    "create_builder_config": "IBuilderConfig",
    "configure": "IBuilderConfig",
    "OnnxParser": "OnnxParser",
    "create_optimization_profile": "IOptimizationProfile",
    "create_timing_cache": "ITimingCache",
    "use_timing_cache": "ITimingCache",
    "get_input": "ITensor",
    "get_error": "ParserError",
    "deserialize_cuda_engine": "ICudaEngine",
    "create_execution_context": "IExecutionContext",
    "Runtime": "Runtime",
    "open_runtime": "Runtime",
    "create_engine_inspector": "EngineInspector",
}
PYTHONS_OWN = {"__version__", "__init__", "__name__", "name"}  # of modules, classes and enumerations, not TensorRT's


def files_with_tensorrt() -> list[Path]:
    """Sources that are handed the module as `trt`."""
    found = [path for folder in SOURCES for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in found if "trt" in names_in(ast.parse(path.read_text("utf-8")))]


def names_in(tree: ast.AST) -> set[str]:
    parameters = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return parameters | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def dotted(node: ast.AST) -> list[str]:
    """a.b.c -> [a, b, c]; [] for what does not begin with a plain name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return [node.id, *parts] if isinstance(node, ast.Name) else []


def tensorrt_name(node: ast.AST, known: set[str]) -> str | None:
    """The name as the table has it: trt.BuilderFlag.INT8 -> BuilderFlag.INT8, builder.create_network -> Builder.…"""
    parts = dotted(node)
    if parts[:1] == ["self"]:
        parts = parts[1:]
    if len(parts) < 2:
        return None
    if parts[0] == "trt":
        name = ".".join(parts[1:])
    elif parts[0] in OBJECTS:
        name = f"{OBJECTS[parts[0]]}.{parts[1]}"
    else:
        return None
    if parts[-1] in PYTHONS_OWN and name not in known:
        name = name.rpartition(".")[0]
    return name or None


def uses(source: str, known: set[str]) -> Iterator[tuple[str, bool]]:
    """Every use of a name, and whether it stands in the branch of a hasattr that asks for it."""
    tree = ast.parse(source)
    above = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        name = tensorrt_name(node, known) if isinstance(node, ast.Attribute) else None
        if name is None:
            continue
        guarded, below, place = False, node, above.get(id(node))
        while place is not None:
            if isinstance(place, ast.If) and below in place.body:
                guarded |= any(name == check or name.startswith(f"{check}.") for check in hasattr_checks(place.test))
            below, place = place, above.get(id(place))
        yield name, guarded


def hasattr_checks(tree: ast.AST) -> Iterator[str]:
    """hasattr(trt.BuilderFlag, "INT8") -> BuilderFlag.INT8"""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hasattr":
            owner, attribute = node.args
            parts = dotted(owner)
            if parts[:1] == ["trt"] and isinstance(attribute, ast.Constant):
                yield ".".join([*parts[1:], str(attribute.value)])


def faults(source: str, table: dict[str, dict[str, bool]]) -> list[str]:
    """List the names in this source that one of the versions lacks."""
    found = []
    for name, guarded in uses(source, set(table)):
        if name not in table:
            found.append(f"{name} is in no version of TensorRT, or its row is missing from {TABLE.name}")
            continue
        missing = [version for version in VERSIONS if not table[name][version]]
        if missing and not guarded:
            found.append(f"{name} is missing in {', '.join(missing)} and no hasattr guards it")
    for check in hasattr_checks(ast.parse(source)):
        if check not in table or len({table[check][version] for version in VERSIONS}) == 1:
            found.append(f"hasattr for {check} is not needed: all versions agree on it")
    return sorted(set(found))


TABLE_ROWS = read_table() if TABLE.is_file() else {}


def test_there_is_something_to_hold() -> None:
    files = {path.relative_to(ROOT).as_posix() for path in files_with_tensorrt()}
    assert {"export/tensorrt/builder.py", "runtime/engines/tensorrt.py"} <= files
    names = {name for path in files_with_tensorrt() for name, _ in uses(path.read_text("utf-8"), set(TABLE_ROWS))}
    expected = {"IExecutionContext.execute_async_v3", "BuilderFlag.INT8", "Builder.build_serialized_network"}
    assert expected <= names and len(names) > 40


@pytest.mark.parametrize("path", files_with_tensorrt(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_name_exists_in_every_version(path: Path) -> None:
    assert faults(path.read_text("utf-8"), TABLE_ROWS) == []


@pytest.mark.parametrize("path", files_with_tensorrt(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_tensorrt_object_goes_by_another_name(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            called = node.value.func
            maker = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if maker in MAKERS:
                target = dotted(node.targets[0])[-1]
                assert OBJECTS.get(target) == MAKERS[maker], f"{target} holds a {MAKERS[maker]}"


BAD = {
    "config.max_workspace_size = 1": "IBuilderConfig.max_workspace_size is missing in 10.3.0, 10.16.1, 11.4.0",
    "config.set_flag(trt.BuilderFlag.INT8)": "BuilderFlag.INT8 is missing in 11.4.0",
    "engine.get_binding_name(0)": "ICudaEngine.get_binding_name is missing in 10.3.0",
    "self._engine.device_memory_size": "ICudaEngine.device_memory_size is missing in 11.4.0",
    "self._context.execute_async_v2([], 0)": "IExecutionContext.execute_async_v2 is missing",
    "builder.build_engine(network, config)": "Builder.build_engine is missing",
    "trt.BuilderFlag.NO_SUCH": "BuilderFlag.NO_SUCH is in no version",
    "trt.IInt8EntropyCalibrator2": "IInt8EntropyCalibrator2 is missing in 11.4.0",
    "if hasattr(trt.BuilderFlag, 'FP16'):\n  trt.BuilderFlag.INT8": "BuilderFlag.INT8 is missing in 11.4.0",
    "hasattr(trt.BuilderFlag, 'INT8')\n trt.BuilderFlag.INT8": "BuilderFlag.INT8 is missing in 11.4.0",
    "if hasattr(trt.BuilderFlag, 'INT8'):\n  pass\n else:\n  trt.BuilderFlag.INT8": "BuilderFlag.INT8 is missing",
    "if hasattr(trt.BuilderFlag, 'TF32'):\n  trt.BuilderFlag.TF32": "hasattr for BuilderFlag.TF32 is not needed",
    "if hasattr(trt.BuilderFlag, 'int8'):\n  trt.BuilderFlag.TF32": "hasattr for BuilderFlag.int8 is not needed",
}
GOOD = [
    "if hasattr(trt.BuilderFlag, 'INT8'):\n  config.set_flag(trt.BuilderFlag.INT8)",
    "context = self._engine.create_execution_context()",
    "trt.__version__",
    "engine.get_tensor_dtype(name).name",
]


@pytest.mark.parametrize("line", BAD)
def test_the_test_finds(line: str) -> None:
    assert any(BAD[line] in fault for fault in faults(f"def f(trt):\n {line}", TABLE_ROWS))


@pytest.mark.parametrize("line", GOOD)
def test_the_test_accepts(line: str) -> None:
    assert faults(f"def f(trt):\n {line}", TABLE_ROWS) == []


def test_our_rows_are_the_whole_table_s() -> None:
    if not MATRIX.is_file():
        pytest.skip(f"needs the whole table at {MATRIX} (or set SHRIKE_TENSORRT_MATRIX)")
    whole = read_table(MATRIX)
    for name, there in TABLE_ROWS.items():
        assert there == {version: whole[name][version] for version in VERSIONS}, name


def write_rows() -> None:
    """The rows of the whole table that our sources, the mock and the examples above touch."""
    whole = read_table(MATRIX)
    sources = [path.read_text("utf-8") for path in files_with_tensorrt()]
    sources += [f"def f(trt):\n {line}" for line in [*BAD, *GOOD]]
    names = {name for source in sources for name, _ in uses(source, set(whole))}
    names |= {name for source in sources for name in hasattr_checks(ast.parse(source))}
    names |= {"BuilderFlag", "ILogger.Severity", "TensorIOMode.NONE", "DataType.HALF"}  # what the mock has
    lines = [
        f"{name}\t" + "\t".join("01"[whole[name][version]] for version in VERSIONS)
        for name in sorted(names & set(whole))
    ]
    TABLE.write_text("\t".join(["name", *VERSIONS]) + "\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    write_rows()
