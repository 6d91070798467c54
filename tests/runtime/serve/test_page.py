"""The page in headless Chromium: the verdict that it shows is the command's."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("uvicorn", reason="pip install '.[serve]'")
pytest.importorskip("httpx", reason="pip install '.[dev]'")

from tests.runtime.serve.browser import CHROMIUM, Page, browser
from tests.runtime.serve.server import Served, pcm, serving
from tests.runtime.serve.test_serve import command
from tests.runtime.speech import speech

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: sudo apt install chromium")
SURE = "--sure", "0.7"  # far from the P(spoof) of the sound below, which the browser resamples
ROW = "[...document.querySelector('#rows tr').cells].map((cell) => cell.innerText)"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(*SURE) as found:
        yield found


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "call.wav"
    sound = np.concatenate([speech(10), np.zeros(16_000)])
    soundfile.write(path, np.frombuffer(pcm(sound), "<i2"), 16_000)
    return path


@pytest.fixture(scope="module")
def page(served: Served, call: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile"), call) as found:
        found.open(served.url)
        found.wait("document.querySelector('#models').textContent")
        yield found


def test_a_dropped_file_gets_the_verdict_of_a_scan(page: Page, call: Path) -> None:
    expected = command("runtime.scan", *SURE, call)
    page.choose(call)
    name, state, p, llr, voice, _ = page.wait(f"document.querySelector('#rows tr') && {ROW}")
    assert f": {state}, P(spoof) {p}, LLR {float(llr):+.2f}, {voice} voiced" in expected and name == "call.wav"
    assert page.run("document.querySelector('#state').textContent") == state
    assert not page.problems


def test_the_microphone_gets_the_verdict_of_the_stream(page: Page, call: Path) -> None:
    last = json.loads(command("runtime.stream", *SURE, "--file", call, "--json").splitlines()[-1])
    rows = page.run("document.querySelectorAll('#rows tr').length")
    page.run("document.querySelector('#mic').click()")
    page.wait("document.querySelector('#mic').getAttribute('aria-pressed') === 'true'")
    page.wait("parseFloat(document.querySelector('#plot').dataset.seconds) > 12")
    page.run("document.querySelector('#mic').click()")
    page.wait(f"document.querySelectorAll('#rows tr').length > {rows}")
    name, state, p, _, voice, _ = page.run(ROW)
    assert name == "microphone" and state == last["state"].replace("bonafide", "bona fide")
    # The browser resamples, and starts to play at a moment of its own.
    assert float(p) == pytest.approx(last["p_spoof"], abs=0.15)
    assert float(voice.split()[0]) == pytest.approx(last["voiced"], abs=1)
    assert not page.problems


def test_the_page_works_with_the_keyboard_and_on_a_phone(page: Page) -> None:
    page.size(390, 844, "dark")
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    reached = []
    page.run("document.activeElement.blur()")
    for _ in range(8):
        for kind in ("keyDown", "keyUp"):
            page.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.append(page.run("document.activeElement.id"))
    assert {"mic", "file"} <= set(reached)
    nameless = "[...document.querySelectorAll('button, input, canvas, meter, section')].filter((one) => !one.hidden && "
    nameless += (
        "!(one.ariaLabel || one.getAttribute('aria-labelledby') || one.textContent.trim() || one.labels?.length))"
    )
    assert page.run(f"{nameless}.map((one) => one.id)") == []
    assert page.run("document.querySelector('#state').getAttribute('aria-live')") == "polite"


def test_a_wrong_token_and_a_refused_microphone_are_explained(tmp_path: Path) -> None:
    with serving("--token", "a-token-of-the-tests") as served, browser(tmp_path / "profile") as page:
        page.open(served.url)
        page.wait("!document.querySelector('#token-form').hidden")
        page.run("document.querySelector('#token').value = 'a-token-of-the-tests'")
        page.run("document.querySelector('#token-form').requestSubmit()")
        page.wait("document.querySelector('#token-form').hidden")
        page.run(
            "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('no', 'NotAllowedError'); }"
        )
        page.run("document.querySelector('#mic').click()")
        page.wait("/allow it/.test(document.querySelector('#message').textContent)")
        page.open(f"{served.url}/api.html")
        page.wait("document.querySelectorAll('section').length >= 6")
