"""--json --changes: a line for each change, and one from time to time."""

import io
import json
import time
from typing import Any

import numpy as np
import pytest

from runtime.sinks.changes import ChangeSink, JsonChanges, StateChange
from tests.runtime.sinks.change_feed import feed, info

SOUND = np.zeros(160, np.float32)


def written(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_the_line_of_a_change_is_the_body_of_a_webhook() -> None:
    out, bodies = io.StringIO(), list[bytes]()

    def receive(change: StateChange) -> None:
        bodies.append(change.body())

    sinks = [JsonChanges(out), ChangeSink([receive])]
    for sink in sinks:
        sink.begin(info())
        feed(sink, ("bonafide", 30.0), ("spoof", 30.0))
        sink.gap(61.0, 1.0, True)
    lines = written(out)
    assert [line["type"] for line in lines] == ["start", "change", "change", "gap"]
    for line, body in zip(lines[1:3], map(json.loads, bodies), strict=True):
        assert line | {"at": ""} == body | {"at": ""}


def test_heartbeats_go_on_without_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    out = io.StringIO()
    sink = JsonChanges(out, heartbeat=10.0)
    sink.begin(info())
    sink.sound(SOUND)
    feed(sink, ("spoof", 5.0))
    for _ in range(100):
        now[0] += 1.0
        sink.sound(SOUND[:0])
    beats = [line for line in written(out) if line["type"] == "heartbeat"]
    assert len(beats) == 10 and {beat["state"] for beat in beats} == {"spoof"}
    assert beats[-1]["without_sound"] == 100.0 and beats[0]["t"] == pytest.approx(5.0)


def test_a_heartbeat_before_the_first_verdict_has_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    out = io.StringIO()
    sink = JsonChanges(out)
    sink.begin(info())
    now[0] += 61.0
    sink.sound(SOUND)
    assert written(out)[-1]["state"] is None
