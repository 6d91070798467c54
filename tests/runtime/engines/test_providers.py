"""Execution providers: the one that was asked for computes, or one line says why it does not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from runtime.engines import open_engine
from runtime.engines.model_loader import load_model
from runtime.engines.providers import SOURCES, find_provider, short, verify_provider
from runtime.support.errors import ShrikeError
from tests.runtime.made_model import made_model

INSTALLED = [short(name) for name in onnxruntime.get_available_providers()]
WINDOW = np.random.default_rng(0).normal(-8, 4, (1, 1, 45, 600)).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_model(tmp_path_factory.mktemp("model"))


class MockSession:
    """A session that says who computes; nothing is computed."""

    def __init__(self, used: list[str], nodes: dict[str, int] | None) -> None:
        self.used, self.nodes = used, nodes

    def get_providers(self) -> list[str]:
        return self.used

    def get_provider_graph_assignment_info(self) -> list[Any]:
        if self.nodes is None:
            raise RuntimeError("was not recorded")
        return [
            SimpleNamespace(ep_name=name, get_nodes=lambda count=count: [None] * count)
            for name, count in self.nodes.items()
        ]


@pytest.mark.parametrize("provider", INSTALLED)
def test_an_installed_provider_computes_what_the_cpu_does_or_says_that_it_does_not(
    model: Path, provider: str, capfd: pytest.CaptureFixture[str]
) -> None:
    logits = open_engine(model)(WINDOW)
    try:
        engine = open_engine(model, provider=provider)
    except ShrikeError as error:
        assert provider != "cpu" and f"--provider {provider}" in str(error) and "\n" not in str(error)
    else:
        assert engine.provider == provider  # type: ignore[attr-defined]
        np.testing.assert_allclose(engine(WINDOW), logits, atol=1e-2)
    assert capfd.readouterr() == ("", "")  # a library that talks would tear the live view apart


@pytest.mark.skipif("azure" not in INSTALLED, reason="this onnxruntime has no provider that can take no node")
def test_a_provider_that_takes_no_node_is_not_called_used(model: Path) -> None:
    with pytest.raises(ShrikeError, match="--provider azure"):
        open_engine(model, provider="azure")


@pytest.mark.parametrize("provider", [*SOURCES, "npu", "", "CPU"])
def test_a_provider_that_is_missing_is_one_line_with_what_is_there_and_what_brings_it(provider: str) -> None:
    mock = SimpleNamespace(__version__="1.2.3", get_available_providers=lambda: ["CPUExecutionProvider"])
    with pytest.raises(ShrikeError, match="cpu") as caught:
        find_provider(mock, provider)
    assert SOURCES.get(provider, "cuda, tensorrt") in str(caught.value)


def test_a_session_that_fell_back_is_refused() -> None:
    with pytest.raises(ShrikeError, match="--provider cuda"):
        verify_provider(MockSession(["CPUExecutionProvider"], None), "CUDAExecutionProvider")


def test_nodes_are_counted_where_the_session_tells() -> None:
    used = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    divided = MockSession(used, {used[0]: 140, used[1]: 12})
    assert verify_provider(divided, used[0]) == "140 of 152 nodes"
    assert verify_provider(MockSession(used, None), used[0]) == ""
    assert verify_provider(SimpleNamespace(get_providers=lambda: used), used[0]) == ""  # before 1.24


def test_a_provider_decides_for_onnx_runtime(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ShrikeError, match="--provider"):
        load_model(model, "tensorrt", provider="cuda")
    opened: list[tuple[Path, str]] = []

    def mock_open(path: Path, threads: int, provider: str) -> Any:
        opened.append((path, provider))
        return SimpleNamespace(placement="3 of 4 nodes", close=lambda: None)

    monkeypatch.setattr("runtime.engines.model_loader.open_engine", mock_open)
    model.with_suffix(".engine").touch()
    chosen = load_model(model, "auto", provider="cuda")
    model.with_suffix(".engine").unlink()
    assert opened == [(model, "cuda")]
    assert (chosen.backend, chosen.reason) == ("ONNX Runtime on cuda", "as requested, 3 of 4 nodes")
