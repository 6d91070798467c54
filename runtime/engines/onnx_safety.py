"""An ONNX file that stands alone: it opens no other file and always comes to an end.

    check_standalone(model, "ecanet9")            # bytes of model.onnx; a ShrikeError where it is more than a graph

A card's hash vouches for model.onnx alone, but ONNX knows weights in other files (external data, by any path) and
engines in other files (EPContext); and loops, which need not end. Nothing that Shrike exports has any of them. Not
every version of ONNX Runtime refuses such paths, so they are looked for here, in the file's own form (protocol buffers)
and without the package onnx, which a device does not have.

    field    varint: number << 3 | kind; then  0: varint   1: 8 bytes   2: length, then so many bytes   5: 4 bytes
"""

from collections.abc import Iterator

from runtime.support.errors import ShrikeError

DEEPEST = 64  # messages within messages; protocol buffers themselves stop at 100
MOST_FIELDS = 1_000_000  # of one file: a hundred times those of our largest

# Which fields of a message hold which messages; what is not named here is passed over. Numbers from onnx.proto.
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
    b"Loop": "a loop, which need not end",
    b"Scan": "a loop, which need not end",
}


class DamagedError(Exception):
    """Not the form of protocol buffers."""


def check_standalone(model: bytes, name: str) -> None:
    """Refuse what reaches beyond the graph, and what cannot be read to the end: something may hide behind it."""
    found = None
    try:
        waiting, seen = [(memoryview(model), "model", 0)], 0
        while waiting and found is None:
            message, kind, depth = waiting.pop()
            for number, value in _fields(message):
                seen += 1
                if depth > DEEPEST or seen > MOST_FIELDS:
                    raise ShrikeError(f"{name}: the graph is nested or divided beyond reason; export it again")
                if isinstance(value, memoryview) and number in PARTS[kind]:
                    waiting.append((value, PARTS[kind][number], depth + 1))
                elif kind == "node" and number == OPERATOR and isinstance(value, memoryview):
                    found = found or REFUSED.get(value.tobytes())
                elif kind == "tensor" and (number == EXTERNAL_DATA or (number == DATA_LOCATION and value != 0)):
                    found = "weights in another file"
    except DamagedError:
        raise ShrikeError(
            f"{name}: the model's file is damaged, no graph can be read from it; export it again"
        ) from None
    if found:
        raise ShrikeError(f"{name}: the graph holds {found}; Shrike runs graphs that stand alone, export it again")


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of every field; bytes stay where they are."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        if tag >= 1 << 32:  # other readers would cut it, and see another field
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
