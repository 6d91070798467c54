"""Foreign models: whatever their inputs are, they are fed or refused in one sentence."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.peers import KINDS, open_peer, parse_shape
from runtime.support.errors import ShrikeError

Sizes = list[int | str]
TYPES = {
    "tensor(float)": TensorProto.FLOAT,
    "tensor(float16)": TensorProto.FLOAT16,
    "tensor(double)": TensorProto.DOUBLE,
    "tensor(bool)": TensorProto.BOOL,
    **{f"tensor({kind})": getattr(TensorProto, kind.upper()) for kind in (
        "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")},
}  # fmt: skip


def peer_file(folder: Path, inputs: dict[str, tuple[int, Sizes]]) -> Path:
    """A graph that gives every input's shape and nothing else."""
    nodes = [helper.make_node("Shape", [name], [f"{name}.shape"]) for name in inputs]
    graph = helper.make_graph(
        nodes,
        "peer",
        [helper.make_tensor_value_info(name, kind, sizes) for name, (kind, sizes) in inputs.items()],
        [helper.make_tensor_value_info(f"{name}.shape", TensorProto.INT64, None) for name in inputs],
    )
    path = folder / "peer.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_every_kind_of_number_is_fed(tmp_path: Path) -> None:
    assert set(TYPES) == set(KINDS)
    path = peer_file(tmp_path, {f"in{n}": (kind, ["batch", 3]) for n, kind in enumerate(TYPES.values())})
    peer = open_peer(path, batch=2)
    for value, kind in zip(peer.feeds.values(), TYPES, strict=True):
        assert value.shape == (2, 3) and value.dtype == KINDS[kind]
        if not np.issubdtype(value.dtype, np.floating):
            assert set(np.unique(value).tolist()) <= {0, 1}
    assert peer.fixed is None


@pytest.mark.parametrize(
    ("sizes", "batch", "shapes", "fed", "fixed"),
    [
        (["n", 1, 45, 600], 1, {}, (1, 1, 45, 600), None),
        (["n", 1, 45, "frames"], 4, {}, (4, 1, 45, 1), None),
        (["n", "samples"], 1, {"x": (1, 64600)}, (1, 64600), None),
        (["n", "samples"], 8, {"x": (1, 64600)}, (8, 64600), None),
        ([1, "samples"], 1, {"x": (1, 16000)}, (1, 16000), 1),
        ([2, 3], 1, {}, (2, 3), 2),
        ([], 1, {}, (), None),
    ],
)
def test_open_sizes_are_the_batch_one_or_what_was_said(
    tmp_path: Path,
    sizes: Sizes,
    batch: int,
    shapes: dict[str, tuple[int, ...]],
    fed: tuple[int, ...],
    fixed: int | None,
) -> None:
    peer = open_peer(peer_file(tmp_path, {"x": (TensorProto.FLOAT, sizes)}), 1, batch, shapes)
    assert peer.feeds["x"].shape == fed and peer.fixed == fixed
    assert list(peer.run()[0]) == list(fed)  # type: ignore[index]


@pytest.mark.parametrize(
    ("kind", "sizes", "shapes", "message"),
    [
        (TensorProto.STRING, ["n"], {}, "is tensor.string.; tensors of numbers were expected"),
        (TensorProto.FLOAT, ["n", 3], {"y": (1, 3)}, "--peer-shape y: peer.onnx has no such input; it has x"),
        (TensorProto.FLOAT, ["n", 3], {"x": (1, 4)}, "wants nx3, not 1x4"),
        (TensorProto.FLOAT, ["n", 3], {"x": (1,)}, "wants nx3, not 1"),
        (TensorProto.FLOAT, ["n", "m"], {"x": (1, 10**9)}, "is too much"),
    ],
)
def test_what_cannot_be_fed_is_one_sentence(
    tmp_path: Path, kind: int, sizes: Sizes, shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(ShrikeError, match=message) as caught:
        open_peer(peer_file(tmp_path, {"x": (kind, sizes)}), 1, 1, shapes)
    assert "\n" not in str(caught.value)


def test_a_graph_that_wants_more_than_one_says_how_to_give_it(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        "peer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "m"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 4])],
    )
    path = tmp_path / "peer.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    with pytest.raises(ShrikeError, match=r"does not run on x \[1, 1\] .*--peer-shape NAME=") as caught:
        open_peer(path)
    assert "\n" not in str(caught.value)
    open_peer(path, shapes={"x": (1, 8)})


def test_what_is_no_model_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    for name in ("text.onnx", "none.onnx"):
        with pytest.raises(ShrikeError, match=name) as caught:
            open_peer(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_shapes_are_read_from_the_command_line() -> None:
    assert parse_shape("audio=1x64600") == ("audio", (1, 64600)) and parse_shape("a=b=3") == ("a=b", (3,))
    for text in ("audio", "audio=", "=1x2", "audio=0x4", "audio=1,2", "audio=-1"):
        with pytest.raises(ShrikeError, match="was expected"):
            parse_shape(text)
