"""Settings as a checkpoint keeps them: frozen dataclasses to plain values and back, those of older files included.

    build(Settings, plain(settings), "settings") == settings

A file must have every entry, and no other. A field that came after files had been written says what those files mean
by not having it: `clip: float = later(5.0, before=0.0)`; so a default may change and old files keep their meaning.
"""

from collections.abc import Mapping
from dataclasses import asdict, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from runtime.support.errors import ShrikeError

T = TypeVar("T")


def later(default: T, before: Any) -> T:
    """A field that older checkpoints lack: its default, and the value that they mean, as a file would hold it.

    A whole group is one as well: `later(Group(), before={})`, where every field of the group says its own `before`.
    """
    return field(default=default, metadata={"before": before})


def plain(record: Any) -> dict[str, Any]:
    """What a file and a log can hold."""
    found: dict[str, Any] = _plain(asdict(record))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def build(kind: Any, value: Any, where: str) -> Any:
    """The reverse; whatever does not fit is a ShrikeError that names the entry."""
    if is_dataclass(kind):
        hints, names = get_type_hints(kind), [item.name for item in fields(kind)]
        older = {item.name: item.metadata["before"] for item in fields(kind) if "before" in item.metadata}
        if not isinstance(value, Mapping) or {*older, *value} != set(names):
            raise ShrikeError(f"{where}: the entries {', '.join(names)} were expected; use the Shrike that wrote it")
        value = older | dict(value)
        return kind(**{name: build(hints[name], value[name], f"{where}.{name}") for name in names})  # type: ignore[operator]
    choices = get_args(kind)
    if get_origin(kind) is Literal:
        fits = value in choices
    elif kind is Path:
        return Path(build(str, value, where))
    elif type(None) in choices:
        return None if value is None else build(choices[0], value, where)
    elif get_origin(kind) is tuple:
        fits = isinstance(value, list) and len(value) == len(choices)
        value = (
            tuple(build(choice, item, where) for choice, item in zip(choices, value, strict=True)) if fits else value
        )
    elif kind is float:
        fits, value = type(value) in (int, float), float(value) if type(value) is int else value
    else:
        fits = type(value) is kind
    if not fits:
        raise ShrikeError(f"{where} is {value!r}, which does not fit; use the Shrike that wrote it")
    return value
