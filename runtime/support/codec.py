"""Convert frozen dataclasses to JSON and back, for cards, reports and the settings of checkpoints.

    card = build(ModelCard, parse(path.read_bytes(), "model.json"), "model.json")
    path.write_text(dump(card))

Input may be hostile. Every entry must be present and of its type, with none left over; numbers are finite, text is
printable and bounded. Anything else raises a ShrikeError that names the entry. A field that is newer than some files
declares the value which those files imply: `clip: float = later(5.0, before=0.0)`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from runtime.support.errors import ShrikeError

Record = TypeVar("Record")
Default = TypeVar("Default")

LONGEST_TEXT = 2_000  # characters of one entry: a sentence or a path, not a payload
MOST_ENTRIES = 4_096  # of one list or object: more layers than any of our networks has
DEEPEST = 16  # nested objects and lists
LARGEST_INTEGER = 2**53  # beyond it, other programs that read it as a float change its value
SHOWN = 60  # characters of a wrong value that an error repeats
ANY: dict[type, Any] = {dict: dict[str, Any], list: list[Any]}  # what a value of no declared type may be, and leaves
NOUNS = {str: "text", float: "a number", int: "a whole number", bool: "true or false"}


def later(default: Default, before: Any) -> Default:
    """Declare a field that older files lack: its default, and the JSON value that such a file implies.

    A group of settings may be newer as a whole: `later(Group(), before={})`, if each of its fields is `later`.
    """
    return field(default=default, metadata={"before": before})


def parse(data: bytes, where: str) -> dict[str, Any]:
    """Read one JSON object; refuse NaN, Infinity and repeated keys."""

    def refuse_constant(name: str) -> NoReturn:
        raise ShrikeError(f"{where}: {name}: expected finite numbers only")

    def refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ShrikeError(f"{where}: {show(key)} occurs more than once; expected one entry")
            seen.add(key)
        return dict(pairs)

    try:
        value = json.loads(data.decode("utf-8"), parse_constant=refuse_constant, object_pairs_hook=refuse_repeated)
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or a number of thousands of digits
        raise ShrikeError(f"{where}: expected JSON in UTF-8 ({str(error).splitlines()[0]})") from error
    if not isinstance(value, dict):
        raise ShrikeError(f"{where}: {show(value)}; expected a JSON object")
    return value


def dump(record: Any) -> str:
    """Format a dataclass as indented JSON; its fields keep their order, free mappings are sorted by key."""
    return json.dumps(plain(record), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Convert dataclasses, tuples and paths to values that JSON and checkpoints can hold."""
    if is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(value[key]) for key in sorted(value)}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def build(kind: type[Record], value: Any, where: str) -> Record:
    """Convert a JSON value to the dataclass `kind`; errors begin with `where`."""
    return cast(Record, _build(kind, value, where, 0))


def show(value: Any) -> str:
    """Shorten a wrong value to one printable line for an error."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    shown = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."


def _build(kind: Any, value: Any, where: str, depth: int) -> Any:
    if kind is Any and value is not None:
        kind = ANY.get(type(value), type(value))
    choices, origin = get_args(kind), get_origin(kind)
    if depth > DEEPEST:
        raise ShrikeError(f"{where}: expected at most {DEEPEST} levels of nesting")
    if is_dataclass(kind):
        return _build_record(kind, value, where, depth)
    if origin in (Union, UnionType):
        return None if value is None else _build(next(c for c in choices if c is not NoneType), value, where, depth)
    if origin is Literal:
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise ShrikeError(f"{where}: {show(value)}; expected {' or '.join(map(str, choices))}")
        return value
    if kind is Path:
        return Path(_build(str, value, where, depth))
    if origin is dict:
        _check_container(dict, value, where)
        inner = choices[1]
        return {_build(str, key, where, depth): _build(inner, value[key], f"{where}.{key}", depth + 1) for key in value}
    if origin in (tuple, list):
        _check_container(list, value, where)
        kinds = (choices[0],) * len(value) if origin is list or choices[-1] is Ellipsis else choices
        if len(value) != len(kinds):
            raise ShrikeError(f"{where}: {len(value)} values; expected {len(kinds)}")
        pairs = enumerate(zip(kinds, value, strict=True))
        return origin(_build(inner, item, f"{where}[{i}]", depth + 1) for i, (inner, item) in pairs)
    return None if kind is Any else _build_leaf(kind, value, where)


def _build_record(kind: Any, value: Any, where: str, depth: int) -> Any:
    if not isinstance(value, Mapping):
        raise ShrikeError(f"{where}: {show(value)}; expected an object")
    names = [item.name for item in fields(kind)]
    value = {item.name: item.metadata["before"] for item in fields(kind) if "before" in item.metadata} | dict(value)
    odd = [f"{name} is missing" for name in names if name not in value]
    odd += [f"{show(name)} is unknown" for name in value if name not in names]
    if odd:
        more = f" and {len(odd) - 4} more" if len(odd) > 4 else ""
        raise ShrikeError(f"{where}: {', '.join(odd[:4])}{more}; expected {', '.join(names)}")
    hints, inner = get_type_hints(kind), f"{where}." if depth else f"{where}: "
    parts = {name: _build(hints[name], value[name], f"{inner}{name}", depth + 1) for name in names}
    try:
        return kind(**parts)
    except ShrikeError as error:  # from the dataclass's own checks
        raise ShrikeError(f"{where}: {error}") from error


def _build_leaf(kind: Any, value: Any, where: str) -> Any:
    if kind is float and type(value) is int and abs(value) <= LARGEST_INTEGER:
        value = float(value)
    if type(value) is not kind or kind not in NOUNS:
        raise ShrikeError(f"{where}: {show(value)}; expected {NOUNS.get(kind, 'a JSON value')}")
    if kind is str and not (len(value) <= LONGEST_TEXT and value.isprintable()):
        raise ShrikeError(f"{where}: {show(value)}; expected printable text of at most {LONGEST_TEXT:,} characters")
    if kind is float and not math.isfinite(value):
        raise ShrikeError(f"{where}: {value}; expected a finite number")
    if kind is int and abs(value) > LARGEST_INTEGER:
        raise ShrikeError(f"{where}: {show(value)}; expected a whole number of at most 2^53")
    return value


def _check_container(kind: type[dict[Any, Any]] | type[list[Any]], value: Any, where: str) -> None:
    if not isinstance(value, kind):
        raise ShrikeError(f"{where}: {show(value)}; expected {'an object' if kind is dict else 'a list'}")
    if len(value) > MOST_ENTRIES:
        raise ShrikeError(f"{where}: {len(value):,} entries; expected at most {MOST_ENTRIES:,}")
