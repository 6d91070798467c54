"""Models and cards that were damaged, exchanged or made to hurt: one line or a correct score, and no file elsewhere."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from runtime.card.checksums import sha256_file
from runtime.card.model_card import read_card, write_card
from runtime.engines import open_engine
from runtime.engines.model_loader import MODELS, load_model
from runtime.engines.onnx import OnnxEngine
from runtime.engines.onnx_safety import check_standalone
from runtime.support.errors import ShrikeError
from tests.runtime.fuzzing import EDITS, Edit, damaged, fuzzed
from tests.runtime.made_model import made_model

ROOT = Path(__file__).resolve().parents[3]
FOLDER = tempfile.TemporaryDirectory()  # gone when the tests end
LONGEST = 1_500  # characters of a message: a path and a sentence or two
WINDOW = np.random.default_rng(0).normal(-8, 4, (1, 1, 45, 600)).astype(np.float32)


@lru_cache
def original() -> tuple[Path, np.ndarray]:
    """A model, its card and its logits; nobody writes there."""
    path = made_model(Path(FOLDER.name))
    return path, open_engine(path)(WINDOW)


def copied(folder: str, model: bytes | None = None, card: bytes | None = None) -> Path:
    source, _ = original()
    path = Path(folder) / "model.onnx"
    path.write_bytes(source.read_bytes() if model is None else model)
    path.with_suffix(".json").write_bytes(source.with_suffix(".json").read_bytes() if card is None else card)
    return path


def right_or_one_line(path: Path) -> None:
    """StreamInfo and running it gives the logits of the undamaged model, or a ShrikeError of one line."""
    try:
        chosen = load_model(path, "auto")
        logits = chosen.engine(WINDOW)
    except ShrikeError as error:
        assert "\n" not in str(error) and str(error).isprintable() and len(str(error)) < LONGEST
    else:
        np.testing.assert_array_equal(logits, original()[1])


# ---- damage that the hash finds


@fuzzed(few=60, many=5_000, edits=EDITS)
def test_a_damaged_model(edits: list[Edit]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        right_or_one_line(copied(folder, model=damaged(original()[0].read_bytes(), edits)))


@fuzzed(few=150, many=4_000, edits=EDITS)
def test_a_damaged_card(edits: list[Edit]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        right_or_one_line(copied(folder, card=damaged(original()[0].with_suffix(".json").read_bytes(), edits)))


JSON = st.one_of(
    st.sampled_from(["null", "true", "-1", "0", "1.5", '""', "NaN", "-Infinity", "1e400", "-0.0", "[]", "{}"]),
    st.sampled_from(['"../../etc/passwd"', '"/"', r'"\u0000"', r'"\ud800"', r'"a\nb"', r'"\u001b[2J"', "]", "{", '"']),
    st.integers(1, 6_000).map(lambda digits: "9" * digits),
    st.integers(1, 100_000).map(lambda depth: "[" * depth + "]" * depth),
    st.integers(1, 5_000).map(lambda count: "{" + ", ".join(f'"{number}": 0' for number in range(count)) + "}"),
    st.integers(1, 5_000).map(lambda count: '"' + "x" * count + '"'),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
)  # fmt: skip


@fuzzed(few=100, many=3_000, changes=st.lists(st.tuples(st.integers(0, 10_000), JSON), min_size=1, max_size=3))
def test_a_card_with_other_values(changes: list[tuple[int, str]]) -> None:
    """Written as text, because much of it is nothing that Python would write."""
    whole = json.loads(original()[0].with_suffix(".json").read_bytes())
    places = list(walk(whole))
    for number, (place, _) in enumerate(changes):
        table, key = places[place % len(places)]
        table[key] = f"@{number}@"
    text = json.dumps(whole)
    for number, (_, value) in enumerate(changes):
        text = text.replace(f'"@{number}@"', value)
    with tempfile.TemporaryDirectory() as folder:
        right_or_one_line(copied(folder, card=text.encode()))


def walk(table: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in the card where a value stands."""
    for key in list(table) if isinstance(table, dict) else range(len(table)):
        yield table, key
        if isinstance(table[key], dict | list):
            yield from walk(table[key])


# ---- damage that the hash does not find: whoever changed the model wrote the card as well


def with_card(folder: Path, model: bytes) -> Path:
    path = copied(str(folder), model=model)
    whole = json.loads(path.with_suffix(".json").read_text())
    whole["files"] = {path.name: sha256_file(path)}
    path.with_suffix(".json").write_text(json.dumps(whole))
    return path


IN_A_PROCESS_OF_ITS_OWN = """
import sys
import numpy as np
from pathlib import Path
from runtime.card.model_card import read_card
from runtime.engines.onnx import OnnxEngine
from runtime.support.errors import ShrikeError
from tests.runtime.engines.test_damaged_models import WINDOW, bent
path, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
card, model = read_card(path), path.read_bytes()
for seed in range(first, last):
    print(seed, end=" ", flush=True)
    try:
        logits = OnnxEngine(bent(model, seed), card)(WINDOW)
        print("logits" if logits.shape == (1, 2) and logits.dtype == np.float32 else "WRONG")
    except ShrikeError as error:
        print("line" if str(error).isprintable() and len(str(error)) < 1500 else "WRONG")
"""


def bent(model: bytes, seed: int) -> bytes:
    """A few bytes changed, mostly where the graph's structure stands: before and after the weights."""
    rng, out = np.random.default_rng(seed), bytearray(model)
    for _ in range(rng.integers(1, 6)):
        ends = int(rng.integers(0, 800)) - 400
        at = ends % len(out) if rng.random() < 0.7 else int(rng.integers(0, len(out)))
        if rng.random() < 0.7:
            out[at] ^= 1 << int(rng.integers(0, 8))
        else:
            out[at] = int(rng.integers(0, 256))
    return bytes(out)


@pytest.mark.parametrize("count", [150, pytest.param(5_000, marks=pytest.mark.long)])
def test_a_damaged_graph_with_a_matching_card_neither_hangs_nor_ends_the_process(count: int) -> None:
    words = [sys.executable, "-c", IN_A_PROCESS_OF_ITS_OWN, str(original()[0]), "0", str(count)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60 + count)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, (lines[-1:], done.stderr[-2000:])  # the last line names the seed
    assert len(lines) == count and {line.split()[1] for line in lines} == {"line", "logits"}


def graph_with(*initialisers: TensorProto, nodes: tuple[Any, ...] = ()) -> bytes:
    """The made model, with more in it."""
    model = onnx.load(str(original()[0]))
    model.graph.initializer.extend(initialisers)
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString())


def elsewhere(location: str, name: str = "bias") -> TensorProto:
    """Two weights in another file."""
    tensor = TensorProto(name=name, dims=[2], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def body(tensor: TensorProto | None = None) -> Any:
    return helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"])],
        "body",
        [helper.make_tensor_value_info("i", 7, []), helper.make_tensor_value_info("c", 9, [])],
        [helper.make_tensor_value_info("d", 9, [])],
        [tensor] if tensor else [],
    )


HOSTILE = {
    "beside": lambda: graph_with(elsewhere("secret.bin")),
    "above": lambda: graph_with(elsewhere("../secret.bin")),
    "absolute": lambda: graph_with(elsewhere("/etc/passwd")),
    "memory": lambda: graph_with(elsewhere("*/_ORT_MEM_ADDR_/*")),
    "constant": lambda: graph_with(nodes=(helper.make_node("Constant", [], ["k"], value=elsewhere("../secret.bin")),)),
    "sparse": lambda: graph_with(
        nodes=(
            helper.make_node(
                "Constant",
                [],
                ["k"],
                sparse_value=helper.make_sparse_tensor(
                    elsewhere("../s"), numpy_helper.from_array(np.zeros(2, np.int64)), [9]
                ),
            ),
        )
    ),
    "within": lambda: graph_with(nodes=(helper.make_node("If", ["c"], ["k"], then_branch=body(elsewhere("../s"))),)),
    "loop": lambda: graph_with(nodes=(helper.make_node("Loop", ["", "c"], ["k"], body=body()),)),
    "scan": lambda: graph_with(nodes=(helper.make_node("Scan", ["c"], ["k"], num_scan_inputs=1, body=body()),)),
    "engine": lambda: graph_with(nodes=(helper.make_node("EPContext", [], ["k"], domain="com.microsoft"),)),
    "function": lambda: with_function(),
    "behind damage": lambda: graph_with(elsewhere("/etc/passwd")) + b"\x07",
    "tag cut elsewhere": lambda: b"\xbb\x80\x80\x80\x10\x00" + graph_with(elsewhere("/etc/passwd")),
}


def with_function() -> bytes:
    model = onnx.load(str(original()[0]))
    node = helper.make_node("Constant", [], ["k"], value=elsewhere("../secret.bin"))
    model.functions.append(helper.make_function("own", "f", [], ["k"], [node], [helper.make_opsetid("", 17)]))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_graph_that_reaches_for_other_files_or_need_not_end_is_refused_before_it_is_loaded(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(8))
    (tmp_path / "deploy").mkdir()
    path = with_card(tmp_path / "deploy", HOSTILE[kind]())
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(ShrikeError):
        open_engine(path)


@pytest.mark.parametrize("name", ["accurate", "edge", "f0"])
def test_what_we_export_stands_alone(name: str) -> None:
    check_standalone((MODELS / f"{name}.onnx").read_bytes(), name)
    assert check_standalone(original()[0].read_bytes(), "made") is None


def test_a_graph_that_gives_something_else_than_its_card_says(tmp_path: Path) -> None:
    """Shapes that a graph only claims; ONNX Runtime warns in its log and goes on."""
    model = onnx.load(str(original()[0]))
    model.graph.node.append(helper.make_node("Concat", ["logits", "logits"], ["twice"], axis=0))
    model.graph.output[0].name = "twice"
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "n"
    model.graph.node.append(helper.make_node("Identity", ["twice"], ["again"]))
    card = json.loads(original()[0].with_suffix(".json").read_text())
    card["output"] = {"name": "twice", "shape": [1, 2]}
    path = copied(str(tmp_path), model.SerializeToString(), json.dumps(card).encode())
    card["files"] = {path.name: sha256_file(path)}
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(ShrikeError, match=r"output .twice."):
        open_engine(path)(WINDOW)


def test_a_graph_that_fails_only_when_it_computes(tmp_path: Path) -> None:
    """A reshape by a value that is known at run time alone."""
    model = onnx.load(str(original()[0]))
    nodes = [
        helper.make_node("ReduceSum", ["features"], ["total"], keepdims=0),
        helper.make_node("Cast", ["total"], ["whole"], to=7),
        helper.make_node("Unsqueeze", ["whole", "zero"], ["shape"]),
        helper.make_node("Reshape", ["logits", "shape"], ["odd"]),
    ]
    model.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "zero"))
    model.graph.node.extend(nodes)
    model.graph.node.append(helper.make_node("ReduceSum", ["odd"], ["sum"]))
    model.graph.node.append(helper.make_node("Add", ["logits", "sum"], ["out"]))
    model.graph.output[0].name = "out"
    card = json.loads(original()[0].with_suffix(".json").read_text())
    card["output"]["name"] = "out"
    path = copied(str(tmp_path), model.SerializeToString(), json.dumps(card).encode())
    card["files"] = {path.name: sha256_file(path)}
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(ShrikeError):
        open_engine(path)(WINDOW)


# ---- exchanged, and elsewhere


def test_files_that_were_exchanged(tmp_path: Path) -> None:
    f0, wide = (made_model(tmp_path / name, name) for name in ("f0", "wide"))
    own = {path: path.read_bytes() for path in (f0, wide)}
    f0.write_bytes(own[wide])
    with pytest.raises(ShrikeError, match=r"sha256"):
        open_engine(f0)
    for name in ("f0", "wide"):  # card and hash of one, graph of the other
        card = read_card(tmp_path / name / "model.onnx", verify=False)
        graph = own[wide if name == "f0" else f0]
        with pytest.raises(ShrikeError, match="features"):
            OnnxEngine(graph, card)
    f0.write_bytes(f0.with_suffix(".json").read_bytes())
    f0.with_suffix(".json").write_bytes(own[f0])
    with pytest.raises(ShrikeError, match="UTF-8"):
        open_engine(f0)


def test_only_files_in_the_models_folder_are_opened(tmp_path: Path) -> None:
    """Python tells which files it opens; what ONNX Runtime opens by itself is refused above."""
    folder, opened = tmp_path / "deploy", []
    path = made_model(folder)
    (tmp_path / "secret.onnx").write_bytes(path.read_bytes())
    open_engine(path).close()  # what importing opens has been opened

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and opened is not None and isinstance(arguments[0], str | bytes | Path):
            opened.append(Path(str(arguments[0])))

    sys.addaudithook(note)
    whole = json.loads(path.with_suffix(".json").read_text())
    for names in ({"../secret.onnx": "ab" * 32}, {"/etc/passwd": "ab" * 32}, whole["files"]):
        path.with_suffix(".json").write_text(json.dumps({**whole, "files": names}))
        for place in (path, path.with_suffix(".json")):
            try:
                read_card(place)
                open_engine(path).close()
            except ShrikeError as error:
                assert "file name" in str(error) and names != whole["files"]
    seen, opened = list(opened), None  # type: ignore[assignment]
    assert {place.parent for place in seen if place.suffix in (".onnx", ".json")} == {folder}
    assert not [place for place in seen if place.name in ("passwd", "secret.onnx")]


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    """The card of these tests is one that passes, or all of them would prove nothing."""
    path = copied(str(tmp_path))
    assert write_card(path, read_card(path)).read_bytes() == original()[0].with_suffix(".json").read_bytes()
    np.testing.assert_array_equal(open_engine(path)(WINDOW), original()[1])


def test_the_format_of_onnx_runtime_which_is_not_checked_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file can be both: harmless as protobuf, and with ORTM from its fifth byte on whatever it likes."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(original()[0]), options)
    other = (tmp_path / "model.ort").read_bytes()
    assert other[4:8] == b"ORTM"
    path = with_card(tmp_path, other)
    monkeypatch.setattr("runtime.engines.onnx.check_standalone", lambda *_: None)
    with pytest.raises(ShrikeError, match="refuses"):
        open_engine(path)
