"""Changes of state: debounced, once each, and none from states that are no answer."""

import json

import pytest

from runtime.sinks.changes import ChangeSink, StateChange
from runtime.support.errors import ShrikeError
from tests.runtime.sinks.change_feed import change, feed, info


def changes(*states: tuple[str, float], debounce: float = 1.0) -> list[tuple[str | None, str]]:
    found: list[StateChange] = []
    sink = ChangeSink([found.append], debounce)
    sink.begin(info())
    feed(sink, *states)
    return [(change.previous, change.state) for change in found]


def test_a_state_that_holds_is_reported_once() -> None:
    assert changes(("bonafide", 60.0), ("spoof", 60.0)) == [(None, "bonafide"), ("bonafide", "spoof")]


def test_a_state_that_flickers_is_not_reported() -> None:
    flicker = [("spoof", 0.5), ("unsure", 0.3)] * 20
    assert changes(("bonafide", 5.0), *flicker, ("bonafide", 5.0)) == [(None, "bonafide")]
    assert len(changes(("bonafide", 5.0), *flicker, debounce=0)) == 41


def test_warming_up_ends_no_state() -> None:
    states = [("warming-up", 5.0), ("spoof", 5.0), ("too-short", 5.0), ("spoof", 5.0)]
    assert changes(*states) == [(None, "spoof")]


def test_a_gap_does_not_count_as_holding() -> None:
    found: list[StateChange] = []
    sink = ChangeSink([found.append], 5.0)
    sink.begin(info())
    time = feed(sink, ("spoof", 1.0))
    sink.gap(time + 100, 100.0, True)
    time = feed(sink, ("spoof", 4.9), start=time + 100)
    assert found == []
    feed(sink, ("spoof", 0.5), start=time)
    assert [change.state for change in found] == ["spoof"]
    assert found[0].t - found[0].since == pytest.approx(5.0, abs=0.11)


def test_each_source_begins_anew() -> None:
    found: list[StateChange] = []
    sink = ChangeSink([found.append], 1.0)
    for source in ("a.wav", "b.wav"):
        sink.begin(info(source))
        feed(sink, ("spoof", 3.0))
    assert [(change.source, change.previous) for change in found] == [("a.wav", None), ("b.wav", None)]


def test_the_line_is_json_whatever_the_source_is_called() -> None:
    source = b"caf\xe9 \n\x1b[31m.wav".decode("utf-8", "surrogateescape")
    body = change(source=source).body()
    entries = json.loads(body)
    assert b"\n" not in body and entries["type"] == "change" and entries["state"] == "spoof"
    assert entries["source"].endswith(".wav") and entries["at"].endswith("Z")


@pytest.mark.parametrize("debounce", [-1.0, float("nan"), 1e9])
def test_a_debounce_out_of_range_is_refused(debounce: float) -> None:
    with pytest.raises(ShrikeError):
        ChangeSink([], debounce)
