"""A written card reads back unchanged; a wrong one is refused in one line that names the entry."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.audio.features import PRESETS
from runtime.card import model_card as cards
from runtime.card.model_card import ModelCard, read_card, sha256_file, write_card
from runtime.support.errors import ShrikeError

ENGINE = cards.TensorRT("10.3.0", "Orin", "8.7", "36.4.3", "ab" * 32, 256, "int8", ("head.Gemm",), 200, 0.03)


def make_card(folder: Path, **changes: Any) -> ModelCard:
    """An INT8 export's card, for a small file that exists."""
    (folder / "model.onnx").write_bytes(b"a graph")
    card = ModelCard(
        version=cards.VERSION,
        name="ecanet9",
        created=cards.created_now(),
        network=cards.Network("ecanet9", 0.25, 4),
        frontend=PRESETS["wide"].with_level("window-mean"),
        input=cards.TensorSpec("features", (-1, 1, 60, 600)),
        output=cards.TensorSpec("logits", (-1, 2)),
        state=None,
        precision="int8",
        target="tensorrt",
        score=cards.ScoreMap(1.5, -0.25, 0.125, "dev, 1,200 trials"),
        accuracy=cards.Accuracy(True, "", "dev", 1200, 0.1, 0.101, (-0.002, 0.004), None, None, 0.9996, 0.31),
        calibration=cards.Calibration(
            "entropy", "c0ffee", "train", 500, "0f" * 32, {"spoof": 250, "bonafide": 250}, {"A01": 250}, 0.12
        ),
        quantisation=cards.Quantisation("ptq", "int8", {"head.Gemm": "the classifier"}),
        training=cards.Training(
            {"train": "c0ffee"}, 8, 0, True, {"data": {"only": "", "noise": [1.0, 2.0], "n": None}}
        ),
        files={"model.onnx": sha256_file(folder / "model.onnx")},
        origin=cards.Origin("0.1.0", {"onnx": "1.19", "numpy": "2.1"}),
        tensorrt=None,
        notes=("Grüße",),
    )
    return replace(card, **changes)


def with_engine(folder: Path) -> ModelCard:
    card = make_card(folder)
    (folder / "model.engine").write_bytes(b"a plan")
    files = {**card.files, "model.engine": sha256_file(folder / "model.engine")}
    return replace(card, files=files, tensorrt=ENGINE)


def spoil(folder: Path, *path: str | int, value: Any) -> str:
    """Change one entry of a written card; return the error of reading it."""
    write_card(folder / "model.onnx", make_card(folder))
    whole = json.loads((folder / "model.json").read_text("utf-8"))
    place = whole
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    (folder / "model.json").write_text(json.dumps(whole), "utf-8")
    return refusal(folder / "model.json")


def refusal(path: Path, verify: bool = True) -> str:
    with pytest.raises(ShrikeError) as caught:
        read_card(path, verify)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    return message


# ---- what is written comes back


def test_a_card_comes_back_as_it_was(tmp_path: Path) -> None:
    for card in (make_card(tmp_path), with_engine(tmp_path)):
        assert write_card(tmp_path / "model.onnx", card) == tmp_path / "model.json"
        assert read_card(tmp_path / "model.onnx") == read_card(tmp_path / "model.json") == card


def test_the_same_card_is_the_same_bytes(tmp_path: Path) -> None:
    card = make_card(tmp_path)
    first = write_card(tmp_path / "model.json", card).read_bytes()
    turned = replace(card, origin=cards.Origin("0.1.0", dict(reversed(card.origin.packages.items()))))
    assert write_card(tmp_path / "model.json", turned).read_bytes() == first
    assert list(json.loads(first)) == [field.name for field in cards.ModelCard.__dataclass_fields__.values()]
    assert "Grüße" in first.decode("utf-8")


def test_a_model_s_path_verifies_that_file_alone(tmp_path: Path) -> None:
    write_card(tmp_path / "model.engine", with_engine(tmp_path))
    (tmp_path / "model.onnx").unlink()  # a device needs the engine alone
    assert read_card(tmp_path / "model.engine").tensorrt == ENGINE
    assert "model.onnx" in refusal(tmp_path / "model.json")


def test_the_card_is_whole_or_not_there(tmp_path: Path) -> None:
    card = write_card(tmp_path / "model.onnx", make_card(tmp_path))
    before = card.read_bytes()
    with pytest.raises(ShrikeError):
        write_card(card, replace(make_card(tmp_path), notes=("line\nbreak",)))
    assert card.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["model.json", "model.onnx"]


def test_a_score_becomes_a_log_likelihood_ratio() -> None:
    assert cards.ScoreMap(2.0, -1.0, 0.5, "dev").llr(0.75) == 0.5


# ---- what is refused


def test_no_card(tmp_path: Path) -> None:
    assert "model.json" in refusal(tmp_path / "model.onnx")


def test_a_changed_file(tmp_path: Path) -> None:
    write_card(tmp_path / "model.onnx", make_card(tmp_path))
    (tmp_path / "model.onnx").write_bytes(b"another graph")
    for path in ("model.onnx", "model.json"):
        assert "model.onnx: sha256" in refusal(tmp_path / path)
    assert read_card(tmp_path / "model.onnx", verify=False).name == "ecanet9"


def test_a_file_that_the_card_does_not_know(tmp_path: Path) -> None:
    write_card(tmp_path / "model.onnx", make_card(tmp_path))
    (tmp_path / "model.engine").write_bytes(b"a plan from elsewhere")
    assert "model.engine" in refusal(tmp_path / "model.engine")


@pytest.mark.parametrize("version", [0, 5, 99, "1", 1.0, True, None, -1])
def test_an_unknown_version_says_which_is_needed(tmp_path: Path, version: object) -> None:
    message = spoil(tmp_path, "version", value=version)
    assert "version" in message and repr(version) in message


def test_a_card_of_version_1_has_no_state(tmp_path: Path) -> None:
    card = make_card(tmp_path)
    path = write_card(tmp_path / "model.onnx", card)
    values = json.loads(path.read_text("utf-8"))
    del values["state"]
    path.write_text(json.dumps(values | {"version": 1}), "utf-8")
    assert read_card(path) == card
    path.write_text(json.dumps(values), "utf-8")
    assert "state" in refusal(path)


def test_a_card_of_version_3_has_the_default_operating_point(tmp_path: Path) -> None:
    card = make_card(tmp_path)
    path = write_card(tmp_path / "model.onnx", card)
    values = json.loads(path.read_text("utf-8"))
    del values["score"]["sure"]
    path.write_text(json.dumps(values | {"version": 3}), "utf-8")
    assert read_card(path) == card and card.score.sure == cards.SURE
    assert "sure" in spoil(tmp_path, "score", "sure", value=0.5)


def test_a_card_of_the_first_front_end_is_refused(tmp_path: Path) -> None:
    path = write_card(tmp_path / "model.onnx", make_card(tmp_path))
    values = json.loads(path.read_text("utf-8"))
    del values["frontend"]["version"]
    path.write_text(json.dumps(values), "utf-8")
    assert "front-end version 1" in refusal(path)


LEVEL = cards.StateTensor("level", "level.next", (2,), "float32", (0.0, 0.5))
RING = cards.StateTensor("ring", "ring.next", (3, 75), "uint8", (128.0,))


def streaming(folder: Path, *tensors: cards.StateTensor) -> ModelCard:
    return replace(
        make_card(folder), input=cards.TensorSpec("features", (-1, 1, 60, 16)), state=cards.State(16, tensors)
    )


def test_a_streaming_network_comes_back_with_its_states(tmp_path: Path) -> None:
    card = streaming(tmp_path, LEVEL, RING)
    assert read_card(write_card(tmp_path / "model.onnx", card)) == card
    with pytest.raises(ShrikeError):
        replace(card, input=cards.TensorSpec("features", (-1, 1, 60, 600)))


@pytest.mark.parametrize(
    "changes",
    [
        {"input": ""},
        {"output": "ring"},
        {"shape": ()},
        {"shape": (65_536, 65_536)},
        {"shape": (0,)},
        {"reset": ()},
        {"reset": (1.0, 2.0, 3.0)},
        {"type": "uint8"},
    ],
)
def test_a_state_that_cannot_be_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ShrikeError):
        streaming(tmp_path, replace(LEVEL, **changes), RING)


NAMES = ["../model.onnx", "/etc/passwd", "a/b.onnx", "a\\b.onnx", "C:model.onnx", "..", ".", "", "x" * 256, "a\x00b"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    assert "model.json: " in spoil(tmp_path, "files", value={name: "ab" * 32})


@pytest.mark.parametrize("link", ["../elsewhere.onnx", "model.onnx"])
def test_a_link_out_of_the_folder_or_to_itself(tmp_path: Path, link: str) -> None:
    folder = tmp_path / "deploy"
    folder.mkdir()
    write_card(folder / "model.onnx", make_card(folder))
    (folder / "model.onnx").rename(tmp_path / "elsewhere.onnx")
    (folder / "model.onnx").symlink_to(link)
    assert "model.onnx" in refusal(folder / "model.onnx")


def test_a_link_within_the_folder_is_fine(tmp_path: Path) -> None:
    card = make_card(tmp_path)
    (tmp_path / "model.onnx").rename(tmp_path / "model-3.onnx")
    (tmp_path / "model.onnx").symlink_to("model-3.onnx")
    write_card(tmp_path / "model.onnx", card)
    assert read_card(tmp_path / "model.onnx") == card


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["model.onnx", "model.json"])
def test_a_pipe_is_not_waited_for(name: str, tmp_path: Path) -> None:
    write_card(tmp_path / "model.onnx", make_card(tmp_path))
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    assert name in refusal(tmp_path / "model.onnx")


WRONG = [
    (("name",), ""),
    (("name",), 3),
    (("name",), "a\x1b[2Jb"),
    (("name",), "x" * 2001),
    (("created",), "yesterday"),
    (("network", "width"), -1.0),
    (("network", "width"), "1"),
    (("network", "width"), True),
    (("network", "exit"), 13),
    (("network", "exit"), 1.0),
    (("network", "depth"), 9),
    (("frontend", "bands"), 45),
    (("frontend", "shape"), "chroma"),
    (("frontend", "hop"), 0),
    (("frontend", "version"), 1),
    (("frontend", "version"), 99),
    (("input", "shape"), [1]),
    (("input", "shape"), [0, 1, 60, 600]),
    (("input", "shape"), [1, 1, 60, 2**40]),
    (("input", "shape"), [1, 1, 60, 600]),
    (("output", "shape"), [-1, 3]),
    (("precision",), "int4"),
    (("precision",), "fp16"),
    (("target",), "moon"),
    (("score", "scale"), 0),
    (("score", "offset"), 1e400),
    (("score", "offset"), 10**400),
    (("score", "fitted_on"), None),
    (("accuracy", "eer"), 1.5),
    (("accuracy", "eer"), None),
    (("accuracy", "measured"), False),
    (("accuracy", "measured"), 1),
    (("accuracy", "eer_change_interval"), [0.1, -0.1]),
    (("accuracy", "eer_change_interval"), [0.1]),
    (("accuracy", "correlation"), -2.0),
    (("calibration", "method"), "random"),
    (("calibration", "silence"), 2.0),
    (("calibration", "trials_sha256"), "AB" * 32),
    (("calibration", "attacks"), {"A01": 501}),
    (("quantisation",), None),
    (("training", "settings"), {"a": {"b": {"c": "\x07"}}}),
    (("training", "settings"), {str(n): n for n in range(5000)}),
    (("files",), {}),
    (("files",), {"model.onnx": "0" * 63}),
    (("files",), {f"{n}.onnx": "ab" * 32 for n in range(17)}),
    (("files",), {"model.engine": "ab" * 32}),
    (("files",), ["model.onnx"]),
    (("tensorrt",), {"version": "10.3.0"}),
    (("notes",), "a note"),
    (("notes",), [["a"]]),
    (("licence",), "none"),
]


@pytest.mark.parametrize(("path", "value"), WRONG, ids=[f"{w[0][-1]}-{n}" for n, w in enumerate(WRONG)])
def test_a_wrong_entry_is_named(tmp_path: Path, path: tuple[str, ...], value: object) -> None:
    message = spoil(tmp_path, *path, value=value)
    assert message.startswith(str(tmp_path / "model.json"))
    if isinstance(value, str | bool) and path[0] not in ("frontend", "precision"):
        assert path[-1] in message  # a value of the right type may contradict another entry, which the message names


def test_a_missing_entry_is_named(tmp_path: Path) -> None:
    write_card(tmp_path / "model.onnx", make_card(tmp_path))
    whole = json.loads((tmp_path / "model.json").read_text("utf-8"))
    del whole["score"], whole["accuracy"]["trials"]
    (tmp_path / "model.json").write_text(json.dumps(whole))
    assert "score is missing" in refusal(tmp_path / "model.json")


def test_nesting_is_limited(tmp_path: Path) -> None:
    deep: Any = "bottom"
    for _ in range(40):
        deep = {"down": deep}
    assert "training.settings.down" in spoil(tmp_path, "training", "settings", value=deep)


BYTES = [
    b"",
    b"\xff\xfe",
    b"[1, 2]",
    b'{"version": 1, "version": 1}',
    b'{"version": NaN}',
    b"[" * 100_000,
    b'{"version": ' + b"1" * 5_000 + b"}",
    b" " * ((1 << 20) + 1),
]


@pytest.mark.parametrize("data", BYTES, ids=range(len(BYTES)))
def test_other_bytes_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.json").write_bytes(data)
    assert "model.json" in refusal(tmp_path / "model.json")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_value_in_any_place_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("card")
    whole = json.loads(write_card(folder / "model.engine", with_engine(folder)).read_text("utf-8"))
    place = whole
    while True:
        key = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[key], dict) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(PLAIN)
    (folder / "model.json").write_text(json.dumps(whole), "utf-8")
    try:
        read_card(folder / "model.json")
    except ShrikeError as error:
        assert "\n" not in str(error)


# ---- which machine an engine is for


def test_an_engine_is_for_one_machine(tmp_path: Path) -> None:
    card = with_engine(tmp_path)
    assert card.check_tensorrt("10.3.0", "Orin", "8.7") == []
    assert card.check_tensorrt("10.16.1", "Orin", "8.7") == ["built with TensorRT 10.3.0, this machine has 10.16.1"]
    assert len(card.check_tensorrt("8.6.2", "Xavier", "7.2")) == 3
    assert "build one on this device" in make_card(tmp_path).check_tensorrt("10.3.0", "Orin", "8.7")[0]
