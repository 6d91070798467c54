"""`--webhook URL`: post every change of state as JSON.

    webhook = Webhook("https://example.org/alerts", say)
    sink = ChangeSink([webhook.send])

docs/alerts.md describes body, attempts and redirects. All attempts for one change carry the same Idempotency-Key,
because a slow server may have taken what it did not answer in time.
"""

import random
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPException
from typing import IO, Any

from runtime.sinks.changes import StateChange
from runtime.support.background import BackgroundQueue, RateLimit
from runtime.support.errors import ShrikeError

TIMEOUT = 10.0  # s for connecting and for each answer
FLUSH_TIMEOUT = 2.0  # s, the same once the stream has ended
FIRST, LONGEST = 1.0, 60.0  # s, the first and the longest back-off
MOST = 1000  # changes that wait, about 0.5 MB
FLUSH = 5.0  # s that the end of the stream waits for deliveries
AGAIN = {408, 425, 429}  # answers that ask for another attempt, besides 5xx
SCHEMES = ("http", "https")


@dataclass
class Delivery:
    """One change on its way."""

    body: bytes
    key: str = field(default_factory=lambda: str(uuid.uuid4()))
    attempts: int = 0


class Webhook:
    """Posts changes; several sources may share it."""

    def __init__(
        self,
        url: str,
        say: Callable[[str], None],
        timeout: float = TIMEOUT,
        first: float = FIRST,
        longest: float = LONGEST,
        most: int = MOST,
    ) -> None:
        self._url, self._name = check_url(url), public_name(url)
        self._say, self._complain = say, RateLimit(say)
        self._timeout, self._first, self._longest = timeout, first, longest
        self._opener = urllib.request.build_opener(_Redirects)
        self._queue = BackgroundQueue("--webhook", self._deliver, most, self._complain)

    def send(self, change: StateChange) -> None:
        """Queue a change."""
        self._queue.put(Delivery(change.body()))

    def close(self) -> None:
        """Try for a few seconds to deliver what waits, and report what is left."""
        if lost := self._queue.close(FLUSH):
            self._say(f"--webhook {self._name}: {lost} of the changes were not delivered")

    def _deliver(self, delivery: Delivery) -> float | None:
        """Post once; return the pause before another attempt, or None."""
        delivery.attempts += 1
        try:
            self._post(delivery)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500 and error.code not in AGAIN:
                self._complain(f"--webhook {self._name}: the server answers {error.code}; check the URL")
                return None
            return self._pause(delivery, f"the server answers {error.code}")
        except (OSError, HTTPException) as error:  # URLError, timeouts and TLS are OSErrors
            return self._pause(delivery, str(getattr(error, "reason", error)) or type(error).__name__)
        return None

    def _post(self, delivery: Delivery) -> None:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "shrike",
            "Idempotency-Key": delivery.key,
        }
        request = urllib.request.Request(self._url, delivery.body, headers, method="POST")
        timeout = min(self._timeout, FLUSH_TIMEOUT) if self._queue.closing else self._timeout
        self._opener.open(request, timeout=timeout).close()  # the answer's body does not matter

    def _pause(self, delivery: Delivery, reason: str) -> float:
        longest = min(self._longest, self._first * 2 ** min(delivery.attempts - 1, 30))
        self._complain(f"--webhook {self._name}: not delivered, trying again ({' '.join(reason.split())})")
        return longest * random.uniform(0.5, 1.0)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Posts again where the standard handler would turn a POST into a GET without a body."""

    max_redirections = 3

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in SCHEMES or (req.type == "https" and scheme != "https") or code == 303:
            raise urllib.error.HTTPError(req.full_url, code, "redirect refused", headers, fp)
        return urllib.request.Request(newurl, req.data, dict(req.headers), method="POST")

    http_error_308: Any = urllib.request.HTTPRedirectHandler.http_error_302  # Python 3.10 has none


def check_url(url: str) -> str:
    """Refuse URLs that cannot be posted to."""
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in SCHEMES and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        raise ShrikeError(f"--webhook {public_name(url)}: expected a URL like https://example.org/alerts")
    if "@" in parts.netloc:
        raise ShrikeError("--webhook: expected a URL without user name and password; put a token into its path")
    return url


def public_name(url: str) -> str:
    """Scheme and host: paths and queries often are secrets."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return "URL"
    return f"{parts.scheme}://{host}" if parts.scheme and host else "URL"
