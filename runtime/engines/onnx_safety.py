"""Refuse ONNX files that open other files or may not terminate.

    check_standalone(model, "ecanet9")            # the bytes of model.onnx

A card's sha256 covers model.onnx only, but ONNX allows weights in other files (external data, by any path), engines in
other files (EPContext), and loops. Shrike exports none of them. Not every version of ONNX Runtime refuses such paths.
This check reads the protocol buffers itself, because a device does not have the package onnx.

    field    varint: number << 3 | kind; then  0: varint   1: 8 bytes   2: length, then that many bytes   5: 4 bytes
"""

from collections.abc import Iterator

from runtime.support.errors import ShrikeError

DEEPEST = 64  # nested messages; protocol buffers themselves stop at 100
MOST_FIELDS = 1_000_000  # of one file: a hundred times as many as in our largest

# Fields that hold messages, by number in onnx.proto; all others are skipped.
PARTS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
OPERATOR = 4  # field of a node
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # fields of a tensor
REFUSED = {
    b"EPContext": "an engine in another file",
    b"Loop": "a loop, which may not terminate",
    b"Scan": "a loop, which may not terminate",
}


class DamagedError(Exception):
    """The bytes are not valid protocol buffers."""


def check_standalone(model: bytes, name: str) -> None:
    """Refuse references to other files, loops, and bytes that cannot be parsed to the end."""
    found = None
    try:
        waiting, seen = [(memoryview(model), "model", 0)], 0
        while waiting and found is None:
            message, kind, depth = waiting.pop()
            for number, value in _fields(message):
                seen += 1
                if depth > DEEPEST or seen > MOST_FIELDS:
                    raise ShrikeError(f"{name}: more than {MOST_FIELDS:,} fields or {DEEPEST} levels; export it again")
                if isinstance(value, memoryview) and number in PARTS[kind]:
                    waiting.append((value, PARTS[kind][number], depth + 1))
                elif kind == "node" and number == OPERATOR and isinstance(value, memoryview):
                    found = found or REFUSED.get(value.tobytes())
                elif kind == "tensor" and (number == EXTERNAL_DATA or (number == DATA_LOCATION and value != 0)):
                    found = "weights in another file"
    except DamagedError:
        raise ShrikeError(f"{name}: the model's file is damaged; export it again") from None
    if found:
        raise ShrikeError(f"{name}: the graph contains {found}; expected a self-contained graph: export it again")


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of every field; bytes are views."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        if tag >= 1 << 32:  # other readers would truncate it and see another field
            raise DamagedError
        kind = tag & 7
        if kind == 0:
            value, place = _varint(message, place)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, place = _varint(message, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise DamagedError
        if length > len(message) - place:
            raise DamagedError
        yield tag >> 3, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message) and shift < 70:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise DamagedError
