"""Frozen dataclasses from JSON that may come from anybody, and back.

    card = build(ModelCard, parse(path.read_bytes(), "model.json"), "model.json")
    path.write_text(text(card))

What fits the dataclass exactly gets in: every entry there, none too many, of its type, numbers finite, text printable
and of a sane length. Whatever else the bytes are, the answer is a ShrikeError that names the entry.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from runtime.support.errors import ShrikeError

Record = TypeVar("Record")

LONGEST_TEXT = 2_000  # characters of one entry: a sentence or a path, not a payload
MOST_ENTRIES = 4_096  # of one list or table: more layers than any network of ours has
DEEPEST = 16  # tables within tables
LARGEST_WHOLE = 2**53  # a larger whole number changes when another program reads it as a float
SHOWN = 60  # characters of a wrong value that the error repeats


def parse(data: bytes, where: str) -> dict[str, Any]:
    """The JSON object that these bytes are; NaN, Infinity and an entry that stands twice are refused."""

    def refuse_constant(name: str) -> NoReturn:
        raise ShrikeError(f"{where} holds {name}: only finite numbers are allowed")

    def refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
            raise ShrikeError(f"{where} holds the entry {show(twice)} twice; once was expected")
        return table

    try:
        value = json.loads(data.decode("utf-8"), parse_constant=refuse_constant, object_pairs_hook=refuse_twice)
    except UnicodeDecodeError as error:
        raise ShrikeError(f"{where} is not UTF-8 text, which was expected (byte {error.start})") from error
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, or a number of thousands of digits
        raise ShrikeError(f"{where} is not JSON, which was expected ({str(error).splitlines()[0]})") from error
    if not isinstance(value, dict):
        raise ShrikeError(f"{where} holds {show(value)}; a JSON object was expected")
    return value


def build(kind: type[Record], value: Any, where: str) -> Record:
    """`value`, as JSON gives it, as the dataclass `kind`; `where` leads the error."""
    return cast(Record, _build(kind, value, where, 0))


def text(record: Any) -> str:
    """The record as JSON: entries in the order of their dataclass, tables by name, one entry a line."""
    return json.dumps(plain(record), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Dataclasses and tuples as the tables and lists that JSON knows; free tables sorted, so that files compare."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(value[key]) for key in sorted(value)}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def _build(kind: Any, value: Any, where: str, depth: int) -> Any:
    choices, origin = get_args(kind), get_origin(kind)
    if depth > DEEPEST:
        raise ShrikeError(f"{where}: tables within tables, at most {DEEPEST} deep, were expected")
    if is_dataclass(kind):
        return _build_record(kind, value, where, depth)
    if origin in (Union, UnionType):
        return None if value is None else _build(next(c for c in choices if c is not NoneType), value, where, depth)
    if origin is Literal:
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise ShrikeError(f"{where} is {show(value)}; {_either(choices)} was expected")
        return value
    if origin is dict:
        _check_container(dict, value, where)
        return {
            _build(str, key, where, depth): _build(choices[1], value[key], f"{where}.{key}", depth + 1) for key in value
        }
    if origin is tuple:
        _check_container(list, value, where)
        if choices[-1] is Ellipsis:
            choices = (choices[0],) * len(value)
        if len(value) != len(choices):
            raise ShrikeError(f"{where} holds {len(value)} values; {len(choices)} were expected")
        pairs = zip(choices, value, strict=True)
        return tuple(_build(c, item, f"{where}[{i}]", depth + 1) for i, (c, item) in enumerate(pairs))
    return _build_free(value, where, depth) if kind is Any else _build_leaf(kind, value, where)


def _build_record(kind: Any, value: Any, where: str, depth: int) -> Any:
    if not isinstance(value, dict):
        raise ShrikeError(f"{where} is {show(value)}; a table was expected")
    hints, names = get_type_hints(kind), [field.name for field in fields(kind)]
    odd = [f"{name} is missing" for name in names if name not in value]
    odd += [f"{show(name)} does not belong there" for name in value if name not in names]
    if odd:
        raise ShrikeError(f"{where}: {', '.join(odd[:4])}{f' and {len(odd) - 4} more' if len(odd) > 4 else ''}")
    parts = {name: _build(hints[name], value[name], f"{where}: {name}", depth + 1) for name in names}
    try:
        return kind(**parts)
    except ShrikeError as error:  # what the dataclass itself demands
        raise ShrikeError(f"{where}: {error}") from error


def _build_free(value: Any, where: str, depth: int) -> Any:
    """Any plain value, for tables whose entries another version may choose."""
    if isinstance(value, dict):
        return _build(dict[str, Any], value, where, depth)
    if isinstance(value, list):
        _check_container(list, value, where)
        return [_build(Any, item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    return value if value is None else _build_leaf(type(value), value, where)


def _build_leaf(kind: Any, value: Any, where: str) -> Any:
    if kind is float and type(value) is int and abs(value) <= LARGEST_WHOLE:
        value = float(value)
    if type(value) is not kind or kind not in NOUNS:
        raise ShrikeError(f"{where} is {show(value)}; {NOUNS.get(kind, 'a plain value')} was expected")
    if kind is str and not (len(value) <= LONGEST_TEXT and value.isprintable()):
        raise ShrikeError(
            f"{where} is {show(value)}; printable text of at most {LONGEST_TEXT:,} characters was expected"
        )
    if kind is float and not math.isfinite(value):
        raise ShrikeError(f"{where} is {value}; a finite number was expected")
    if kind is int and abs(value) > LARGEST_WHOLE:
        raise ShrikeError(f"{where} is larger than 2^53; no such number belongs there")
    return value


NOUNS = {str: "text", float: "a number", int: "a whole number", bool: "true or false"}


def _check_container(kind: type[dict[Any, Any]] | type[list[Any]], value: Any, where: str) -> None:
    if not isinstance(value, kind):
        raise ShrikeError(f"{where} is {show(value)}; a {'table' if kind is dict else 'list'} was expected")
    if len(value) > MOST_ENTRIES:
        raise ShrikeError(f"{where} holds {len(value):,} entries; at most {MOST_ENTRIES:,} are allowed")


def show(value: Any) -> str:
    """A wrong value for an error: on one line, printable and short, whatever it is."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    shown = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."


def _either(choices: tuple[Any, ...]) -> str:
    return " or ".join(str(choice) for choice in choices)
