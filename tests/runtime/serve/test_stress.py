"""Attacks in short form, and a service that is killed under load; scripts/serve_stress.py has the long form."""

import asyncio
import socket
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="pip install '.[serve]'")
pytest.importorskip("httpx", reason="pip install '.[dev]'")
pytest.importorskip("psutil", reason="pip install '.[benchmarks]'")

from scripts import serve_stress as stress
from scripts.serve_restart import kill_and_restart
from tests.runtime.serve.server import Served, serving


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving("--max-streams", "120", "--max-mb", "2") as found:
        yield found


def port(served: Served) -> int:
    return int(served.url.rpartition(":")[2])


@pytest.mark.parametrize(
    ("attack", "count"),
    [
        (stress.half_closed, 20),
        (stress.garbage_frames, 20),
        (stress.slow_headers, 20),
        (stress.large_body, 2**24),
        (stress.many_connects, 500),
        (stress.idle_streams, 100),
    ],
)
def test_attacks_end_and_a_call_is_scored_after_them(served: Served, attack, count: int) -> None:
    before = stress.memory(port(served))
    report = attack(port(served), count)
    assert "FAILS" not in report and "FAILS" not in stress.score(port(served))
    assert stress.memory(port(served)) < before + 60
    if "closed" in report:
        assert report.startswith(f"{count} of {count}")


def test_parallel_streams_in_real_time_end_with_a_summary_and_every_sample_is_accounted_for(served: Served) -> None:
    found = asyncio.run(stress.load(port(served), 4, 5.0))
    assert found.ended == 4 and found.failed == 0 and (found.lost > 0 or len(found.late) > 4 * 10)
    assert np.isfinite(found.late).all() and min(found.late) > 0


def test_a_service_that_is_killed_under_load_starts_again_and_every_client_comes_back() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    found = asyncio.run(kill_and_restart(number, 20, 9.0))
    assert found.cut == len(found.back) == found.ended == 20 and found.left == 0
