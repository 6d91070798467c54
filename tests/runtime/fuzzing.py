"""Properties that hypothesis tries to break: the same few examples in every run, and very many with --long.

@fuzzed(few=40, many=5_000, edits=EDITS)
def test_any_damage_is_one_line(edits: list[Edit]) -> None: ...

python -m tests tests/runtime --long
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Edit = tuple[str, float, bytes]  # what is done, where (share of the length), with which bytes

EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "write", "insert", "delete", "cut", "zero", "repeat"]),
        st.one_of(st.floats(0, 1, exclude_max=True), st.floats(0, 0.02), st.floats(0.98, 1, exclude_max=True)),
        st.binary(min_size=1, max_size=12),
    ),
    min_size=1,
    max_size=6,
)


def damaged(data: bytes, edits: list[Edit]) -> bytes:
    """Bytes as bad cables, full disks and people with an editor leave them."""
    out = bytearray(data)
    for kind, share, new in edits:
        at = int(share * len(out))
        if kind == "flip" and out:
            out[at] ^= 1 << new[0] % 8
        elif kind == "write":
            out[at : at + len(new)] = new
        elif kind == "insert":
            out[at:at] = new
        elif kind == "delete":
            del out[at : at + len(new)]
        elif kind == "cut":
            del out[at:]
        elif kind == "zero":
            out[at : at + 64 * len(new)] = bytes(len(out[at : at + 64 * len(new)]))
        elif kind == "repeat":
            out[at:at] = out[at : at + 16 * len(new)]
    return bytes(out)


def fuzzed(few: int, many: int, **strategies: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a short and a long test; a check takes no fixtures, which examples would share."""

    def decorate(check: Callable[..., None]) -> Callable[..., None]:
        calm = {"deadline": None, "suppress_health_check": list(HealthCheck)}
        short = settings(max_examples=few, derandomize=True, database=None, **calm)(given(**strategies)(check))
        long = settings(max_examples=many, **calm)(given(**strategies)(check))

        @pytest.mark.parametrize("extent", ["short", pytest.param("long", marks=pytest.mark.long)])
        def test(extent: str) -> None:
            (short if extent == "short" else long)()

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return decorate
