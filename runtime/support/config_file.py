"""`--config FILE`: options of a command from a TOML file.

    # door.toml                                # python -m runtime.stream --config door.toml --threads 1
    mic = true
    device = ["USB"]
    threads = 2                                # the command line overrides the file

A command takes a file when its options have the field `config`. Keys are names of options, with dashes or underscores.
Every key must be an option, and every value must have its type. `--no-NAME` on the command line turns off a switch that
the file turns on. Paths are relative to the working directory, as on the command line.

The file's values become words in front of the command line, so that they pass the same checks.
"""

import os
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import tyro

from runtime.support.codec import build, show
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby, nearest

POSITIONAL = tyro.conf.Positional[int].__metadata__[0]  # type: ignore[attr-defined]
MOST_BYTES = 16_384  # of a file; a hundred options need 4,000, and tomllib takes quadratic time for dotted keys


class ConfigError(ShrikeError):
    """A configuration file that cannot be used; trying again cannot help."""

    code = 78  # EX_CONFIG of sysexits.h; a service does not restart for it


class Option(NamedTuple):
    """One field of the options."""

    name: str  # with dashes
    hint: Any
    default: Any
    positional: bool


def with_config(options: type, words: Sequence[str]) -> list[str]:
    """Put the options of the file behind `--config`, if there is one, in front of the command line's words."""
    path = _config_path(words)
    known = {option.name: option for option in find_options(options)}
    if path is None or "config" not in known:
        return list(words)
    switches = {f"--no-{name}": name for name, option in known.items() if option.default is False}
    off = {switches[word] for word in words if word in switches}
    values = {name: value for name, value in read_config(Path(path), known).items() if name not in off}
    from_file = [word for name, value in values.items() for word in to_words(known[name], value, path)]
    return [*from_file, *(word for word in words if word not in switches)]


def read_config(path: Path, known: Mapping[str, Option]) -> dict[str, Any]:
    """Read a TOML file whose keys are names of options."""
    values = read_toml(path)
    for name, value in values.items():
        if name not in known or name == "config":
            hint = ", expected no tables" if isinstance(value, dict) else ""
            raise ConfigError(
                f"{path}: {show(name)}: no such option{hint}{nearest(name, [*known]) or '; --help lists all'}"
            )
        if known[name].positional:
            raise ConfigError(f"{path}: {name}: expected on the command line, without a name")
    return values


def read_toml(path: Path) -> dict[str, Any]:
    """Read any TOML file; underscores in names become dashes."""
    values: dict[str, Any] = {}
    for key, value in _load(path).items():
        name = key.replace("_", "-")
        if name in values:
            raise ConfigError(f"{path}: {name}: expected once, with dashes or with underscores")
        values[name] = value
    return values


def find_options(options: Any) -> list[Option]:
    """Fields of a dataclass and of those within it."""
    found: list[Option] = []
    hints = get_type_hints(options, include_extras=True)
    for entry in fields(options):
        hint, marks = hints[entry.name], getattr(hints[entry.name], "__metadata__", ())
        kind = get_args(hint)[0] if marks else hint
        if is_dataclass(kind):
            found += find_options(kind)
        else:
            default = None if entry.default is MISSING else entry.default
            found.append(Option(entry.name.replace("_", "-"), kind, default, POSITIONAL in marks))
    return found


def plain(hint: Any) -> Any:
    """Return the type of an optional value without None."""
    if get_origin(hint) in (Union, UnionType):
        return next(choice for choice in get_args(hint) if choice is not NoneType)
    return hint


def to_words(option: Option, value: Any, path: str) -> list[str]:
    """Turn a value into the words that would stand on a command line."""
    where, name, kind = f"{path}: {option.name}", f"--{option.name}", plain(option.hint)
    if kind is tuple:  # PATHS and WORDS of runtime.support.command
        kind, value = tuple[str, ...], [value] if isinstance(value, str) else value
    if kind is str and isinstance(value, str) and "\0" not in value:  # a command may have several lines
        return [f"{name}={value}"]
    try:
        value = build(kind, value, where)
    except ShrikeError as error:
        raise ConfigError(str(error)) from error
    if kind is bool:
        return [] if value == option.default else [name if value else f"--no-{option.name}"]
    if not isinstance(value, tuple):
        return [f"{name}={value}"]
    words = [str(item) for item in value]
    if any(isinstance(item, str | Path) and str(item).startswith("-") for item in value):
        raise ConfigError(f"{where} = {show(value)}: expected names without a dash in front")
    return [name, *words] if words else []


def _config_path(words: Sequence[str]) -> str | None:
    """Value of the last `--config` on a command line."""
    path = None
    for word, following in zip(words, [*words[1:], None], strict=True):
        if word == "--config" and following is not None and not following.startswith("--"):
            path = following
        elif word.startswith("--config="):
            path = word.partition("=")[2]
    return path


def _load(path: Path) -> dict[str, Any]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # opening a FIFO would wait otherwise
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ConfigError(f"{path}: expected a TOML file")
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file{nearby(path) or '; give the path of a TOML file'}") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise ConfigError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if len(data) > MOST_BYTES:
        raise ConfigError(f"{path}: larger than {MOST_BYTES:,} bytes; expected a file of options")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except RecursionError as error:
        raise ConfigError(f"{path}: expected options, found lists nested too deep") from error
    except ValueError as error:  # TOML, UTF-8, a number of thousands of digits
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: expected TOML ({reason[:200]})") from error
