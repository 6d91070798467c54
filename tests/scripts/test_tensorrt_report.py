"""The report of TensorRT engines, driven with MOCKS of TensorRT and the driver, whose engines ONNX Runtime computes."""

import ctypes
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks.stats import measure
from runtime.audio.features import PRESETS
from runtime.engines.onnx import open_onnx
from scripts import tensorrt_report as report
from scripts import tensorrt_rows as rows
from tests.export.mock_tensorrt import Held, MockCuda, MockTensorRT
from tests.export.small import exported, float_graph, quantised_graph, windows

TRIALS = 3


class OnnxTensorRT(MockTensorRT):
    """The mock whose plans are the ONNX graphs and whose contexts run them."""

    def _build(self, logger: Any) -> bytes:
        return bytes(self.calls["graph"])

    def Runtime(self, logger: Any) -> Held:  # noqa: N802
        return self.held("Runtime", deserialize_cuda_engine=self._plan)

    def _plan(self, plan: bytes) -> Held:
        session = onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
        modes = {port.name: self.TensorIOMode.INPUT for port in session.get_inputs()}
        modes |= {port.name: self.TensorIOMode.OUTPUT for port in session.get_outputs()}
        forms = [*session.get_inputs(), *session.get_outputs()]
        shapes = {port.name: tuple(n if isinstance(n, int) else -1 for n in port.shape) for port in forms}
        names = list(modes)
        return self.held(
            "ICudaEngine",
            num_io_tensors=len(names),
            get_tensor_name=lambda number: names[number],
            get_tensor_mode=lambda name: modes[name],
            get_tensor_dtype=lambda name: self.DataType.FLOAT,
            get_tensor_shape=lambda name: shapes[name],
            get_tensor_profile_shape=lambda name, profile: [(n, *shapes[name][1:]) for n in (1, 4, 4)],
            create_execution_context=lambda: self._session(session, shapes),
            create_engine_inspector=lambda: self.held(
                "EngineInspector", execution_context=None, get_engine_information=lambda form: '{"Layers": []}'
            ),
        )

    def _session(self, session: Any, shapes: dict[str, tuple[int, ...]]) -> Held:
        addresses: dict[str, int] = {}
        now: dict[str, tuple[int, ...]] = {}

        def at(name: str, count: int) -> Any:
            shape = (count, *shapes[name][1:])
            return np.ctypeslib.as_array((ctypes.c_float * math.prod(shape)).from_address(addresses[name])).reshape(
                shape
            )

        def execute(stream: int) -> bool:
            (count,) = {shape[0] for shape in now.values()}

            def kernel() -> None:
                names = [port.name for port in session.get_outputs()]
                found = session.run(names, {name: at(name, count) for name in now})
                for name, values in zip(names, found, strict=True):
                    at(name, count)[:] = values

            MockCuda.newest.queue(kernel)
            return True

        return self.held(
            "IExecutionContext",
            set_input_shape=lambda name, shape: now.update({name: shape}) or True,
            set_tensor_address=lambda name, pointer: addresses.update({name: pointer}) or True,
            execute_async_v3=execute,
        )


@pytest.fixture
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as scripts.tensorrt_trials leaves it, with one small network; and the mocks."""
    folder = tmp_path / "trials"
    for form, graph in (("int8", quantised_graph("ecanet9")), ("float", float_graph("ecanet9", dynamic=True))):
        exported(folder, graph, f"small-{form}")
    stored = np.rint(np.concatenate(list(windows(TRIALS))) * rows.UNITS).astype(np.int16)
    np.save(rows.trials_path(folder, PRESETS["f0"]), stored)
    for form in ("int8", "float"):
        with open_onnx(folder / f"small-{form}.onnx") as engine:
            found = rows.run_trials(engine, rows.read_windows(folder, PRESETS["f0"]))
        np.save(rows.logits_path(folder / f"small-{form}.onnx"), found)
    (folder / report.MANIFEST).write_text(json.dumps({"small": "random weights"}))
    for module in (report, rows):
        monkeypatch.setattr(module, "load_tensorrt", lambda: OnnxTensorRT("8.5.3"))
        monkeypatch.setattr(module, "open_cuda", lambda library: MockCuda(capturable=library == "cuda"))
    monkeypatch.setattr(report, "build_all", build_here)
    monkeypatch.setattr(rows, "RUNS", 1)
    monkeypatch.setattr(rows, "measure", lambda cases, seconds, rounds=1: measure(cases, 0.0, 1, 1, 0.0))
    return folder


def build_here(options: report.Options, wanted: list[report.Job], until: float) -> dict[str, str]:
    for job in wanted:
        report.build(options, job)
    return {}


def start(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["tensorrt_report", *map(str, words)])
    report.main()


def test_every_engine_gets_its_row(trials: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "report"
    start(monkeypatch, trials, out, "--most", 4, "--duration", 0.001)
    found = json.loads((out / "results.json").read_text())["rows"]
    assert set(found) == {f"small-{p}" for p in ("int8", "fp16", "fp32")} | {"small-int8-batch4"}
    for row in found.values():
        assert row["trials"] == TRIALS and row["largest difference"] < 1e-4 and row["same state"] == 1.0, row
    assert found["small-fp32"].keys() >= {"graph", "no graph", "PyCUDA", "GPU", "build s", "engine MB"}
    assert found["small-int8"]["float file: largest difference"] > 0.0
    assert set(found["small-int8-batch4"]["batches"]) == {"1"}  # the graph of the quantised file has a fixed batch


def test_a_second_run_does_what_is_missing(trials: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "report"
    words = (trials, out, "--most", 1, "--duration", 0.001)
    start(monkeypatch, *words, "--seconds", 0)
    assert all("trials" not in row for row in json.loads((out / "results.json").read_text())["rows"].values())
    start(monkeypatch, *words, "--precisions", "fp32")
    before = json.loads((out / "results.json").read_text())["rows"]["small-fp32"]
    monkeypatch.setattr(rows, "load_tensorrt", lambda: OnnxTensorRT("8.5.3", "gpu"))
    monkeypatch.setattr(report, "measure_one", lambda *_: pytest.fail("measured twice"))
    start(monkeypatch, *words, "--precisions", "fp32")
    assert json.loads((out / "results.json").read_text())["rows"]["small-fp32"] == before


def test_an_engine_that_fails_does_not_stop_the_others(
    trials: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "report", rows.measure_one

    def fail(folder: Path, job: report.Job, *more: Any) -> dict[str, Any]:
        if job.precision == "int8":
            raise RuntimeError("no kernel")
        return whole(folder, job, *more)

    monkeypatch.setattr(report, "measure_one", fail)
    start(monkeypatch, trials, out, "--most", 1, "--duration", 0.001)
    found = json.loads((out / "results.json").read_text())["rows"]
    assert "no kernel" in found["small-int8"]["error"] and "trials" in found["small-fp16"]
    assert "no kernel" in (out / "results.md").read_text()


def test_an_engine_that_ends_the_process_is_left_out_after_two_attempts(
    trials: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report"
    words = (trials, out, "--most", 1, "--duration", 0.001, "--precisions", "fp32", "--no-pycuda")

    def stop(*_: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(report, "measure_one", stop)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                start(monkeypatch, *words)
    start(monkeypatch, *words)
    (row,) = json.loads((out / "results.json").read_text())["rows"].values()
    assert row["attempts"] == 2 and "error" in row and "trials" not in row


def test_what_is_built_is_read_by_onnx(trials: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "report"
    start(monkeypatch, trials, out, "--build", "small-fp16")
    assert onnx.load(out / "small-fp16.engine").graph.node and (out / "small-fp16.build.json").is_file()
