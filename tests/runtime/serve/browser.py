"""Headless Chromium, driven over its DevTools protocol."""

import json
import re
import shutil
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._numbers = socket, count(1)
        self.problems: list[str] = []  # of the console: errors, and what the policy refused

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=120))
            if message.get("method") == "Runtime.exceptionThrown":
                self.problems.append(str(message["params"]["exceptionDetails"]))
            if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.problems.append(message["params"]["entry"]["text"])
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def run(self, script: str) -> Any:
        """The value of an expression of JavaScript."""
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 90) -> Any:
        """Wait until an expression is true."""
        until = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < until, (script, self.run("document.body.innerText"), self.problems)
            time.sleep(0.2)
        return value

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def choose(self, path: Path) -> None:
        """Choose a file in the page's input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def size(self, width: int, height: int, scheme: str = "light") -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path: Path) -> None:
        time.sleep(0.5)  # the canvas is drawn in the next frame
        path.write_bytes(b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]))


@contextmanager
def browser(folder: Path, microphone: Path | None = None, *words: str) -> Iterator[Page]:
    """Start Chromium with a profile in `folder`; `microphone`: WAV file that it hears, once."""
    assert CHROMIUM
    fake = [f"--use-file-for-fake-audio-capture={microphone}%noloop"] if microphone else []
    command = [
        *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--remote-debugging-port=0", f"--user-data-dir={folder}", "--autoplay-policy=no-user-gesture-required"),
        *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", *fake, *words, "about:blank"),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            address = next(found[1] for line in process.stderr if (found := re.search(r"ws://([^/]+)/", line)))
            tabs = httpx.get(f"http://{address}/json", timeout=60).json()
            tab = next(one for one in tabs if one["type"] == "page")
            with connect(tab["webSocketDebuggerUrl"], max_size=None, open_timeout=60) as socket:
                page = Page(socket)
                for domain in ("Page", "Runtime", "Log", "DOM"):
                    page.call(f"{domain}.enable")
                yield page
        finally:
            process.terminate()
            process.communicate(timeout=60)
