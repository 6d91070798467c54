"""--webhook against a real server that is slow, down, back, rude or elsewhere."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from runtime.sinks import webhook as module
from runtime.sinks.webhook import Webhook
from runtime.support.errors import ShrikeError
from tests.runtime.sinks.change_feed import change


class Server:
    """Collects what is posted; `answer(number of the request)` decides what comes back."""

    def __init__(self, port: int = 0, answer: Callable[[int], tuple[int, str]] = lambda number: (200, "")) -> None:
        self.posts: list[tuple[str, str, dict[str, object]]] = []  # path, Idempotency-Key, body
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["Content-Type"] == "application/json"
                with server.lock:
                    server.posts.append((self.path, self.headers["Idempotency-Key"], json.loads(body)))
                    number = len(server.posts) - 1
                code, location = answer(number)
                self.send_response(code)
                if location:
                    self.send_header("Location", location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                raise AssertionError("a change was fetched instead of posted")

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # clients that have timed out

        self.http = Quiet(("127.0.0.1", port), Handler)
        self.port = self.http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/alerts"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def times(self) -> list[object]:
        return [body["t"] for _, _, body in self.posts]

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@contextmanager
def serving(port: int = 0, answer: Callable[[int], tuple[int, str]] = lambda number: (200, "")) -> Iterator[Server]:
    server = Server(port, answer)
    try:
        yield server
    finally:
        server.close()


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def hook(url: str, messages: list[str] | None = None, **more: float) -> Webhook:
    settings = {"timeout": 1.0, "first": 0.05, "longest": 0.2} | more
    return Webhook(url, (messages if messages is not None else []).append, **settings)  # type: ignore[arg-type]


def test_changes_arrive_in_order_with_the_line_as_body() -> None:
    with serving() as server:
        webhook = hook(server.url)
        for number in range(10):
            webhook.send(change(number=number))
        webhook.close()
        assert server.times() == list(range(10))
        assert server.posts[0][2] == change(number=0).entries() and server.posts[0][0] == "/alerts"
        assert len({key for _, key, _ in server.posts}) == 10


def test_a_server_that_is_down_and_comes_back_gets_every_change() -> None:
    with serving() as server:
        port = server.port
    messages = list[str]()
    webhook = hook(f"http://127.0.0.1:{port}/alerts", messages)
    for number in range(5):
        began = time.monotonic()
        webhook.send(change(number=number))
        assert time.monotonic() - began < 1.0  # sending never waits for the network
    until(lambda: bool(messages))  # it is known to be down
    with serving(port) as server:
        until(lambda: len(server.posts) == 5)
        assert server.times() == list(range(5))
    with serving(port, lambda number: (503, "") if number < 3 else (204, "")) as server:
        webhook.send(change(number=5))
        until(lambda: len(server.posts) == 4)
        assert len({key for _, key, _ in server.posts}) == 1 and server.times() == [5] * 4
        webhook.close()
    assert len(messages) == 1  # one line, however many attempts


def test_a_slow_server_is_asked_again_with_the_same_key() -> None:
    def answer(number: int) -> tuple[int, str]:
        if number == 0:
            time.sleep(3.0)
        return 200, ""

    with serving(answer=answer) as server:
        webhook = hook(server.url, timeout=0.5)
        webhook.send(change(number=0))
        webhook.send(change(number=1))
        until(lambda: 1 in server.times())
        webhook.close()
        assert server.posts[0][1] == server.posts[1][1] != server.posts[-1][1]


def test_a_server_that_accepts_and_says_nothing_does_not_hold_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH", 1.0)
    messages = list[str]()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        webhook = hook(f"http://127.0.0.1:{silent.getsockname()[1]}/", messages, timeout=600.0)
        for number in range(3):
            webhook.send(change(number=number))
        began = time.monotonic()
        webhook.close()
        assert time.monotonic() - began < 60.0
    assert messages


def test_the_oldest_changes_are_dropped_and_counted() -> None:
    with serving() as server:
        port = server.port
    webhook = hook(f"http://127.0.0.1:{port}/", most=3)
    for number in range(20):
        webhook.send(change(number=number))
    until(lambda: webhook._queue.dropped >= 16)
    with serving(port) as server:
        until(lambda: 19 in server.times())
        webhook.close()
        assert server.times()[-3:] == [17, 18, 19]


def test_an_answer_that_will_not_change_ends_the_delivery() -> None:
    messages = list[str]()
    with serving(answer=lambda number: (404, "") if number == 0 else (200, "")) as server:
        webhook = hook(f"{server.url}?token=secret", messages)
        webhook.send(change(number=0))
        webhook.send(change(number=1))
        until(lambda: 1 in server.times())
        webhook.close()
        assert server.times() == [0, 1]
    assert messages and "secret" not in messages[0]


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_is_posted_again(code: int) -> None:
    with serving(answer=lambda number: (code, "/moved") if number == 0 else (200, "")) as server:
        webhook = hook(server.url)
        webhook.send(change(number=7))
        webhook.close()
        assert [path for path, _, _ in server.posts] == ["/alerts", "/moved"] and server.times() == [7, 7]


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/passwd", "gopher://127.0.0.1/"])
def test_a_redirect_to_another_scheme_is_refused(target: str) -> None:
    messages = list[str]()
    with serving(answer=lambda number: (302, target)) as server:
        webhook = hook(server.url, messages)
        webhook.send(change())
        webhook.close()
        assert len(server.posts) == 1 and len(messages) == 1


def test_redirects_in_a_circle_end() -> None:
    with serving(answer=lambda number: (307, f"/{number}") if number < 50 else (200, "")) as server:
        webhook = hook(server.url)
        webhook.send(change())
        until(lambda: len(server.posts) >= 2)
        webhook.close()
        assert len(server.posts) < 50


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "ftp://example.org/",
        "file:///etc/passwd",
        "http://",
        "http://a:b@example.org/",
        "http://x:99999/",
    ]
    + ["http://exa mple.org/", "http://example.org/\r\nX: y", "https://[::1", "javascript:alert(1)"],
)
def test_other_urls_are_refused_at_the_start(url: str) -> None:
    with pytest.raises(ShrikeError):
        Webhook(url, print)
