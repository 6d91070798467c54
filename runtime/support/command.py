"""The frame around every command: what a user caused is one line and exit 2, a traceback means a bug of ours.

    def main() -> None:
        options = parse(Options, "train.score", __doc__)   # a frozen dataclass; its fields' docstrings are the help

    if __name__ == "__main__":
        run(main)

Exit codes: 0 done, 1 a bug (traceback), 2 the user can mend it, 3 it ran to its end and what it found is not good
enough, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

import errno
import io
import os
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import tyro

from runtime.support.errors import ShrikeError, printable

Options = TypeVar("Options")

FAILED = 3  # exit code: it ran to its end, and what it found is not good enough
# What the system refuses and a user can mend; a file of ours that is missing is a bug and keeps its traceback.
REFUSED = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP,
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE,
}  # fmt: skip

# Annotated[tuple, PATHS] instead of tuple[Path, ...]: tyro holds defaults to their types, and for those that it does
# not see through (`X | None` as well, but not Optional[X]) it takes typeguard, which loads unittest.mock, asyncio and
# ssl. A device would pay for them at every start.
PATHS = tyro.constructors.PrimitiveConstructorSpec[tuple[Path, ...]](
    nargs="*",
    metavar="[PATH [PATH ...]]",
    instance_from_str=lambda words: tuple(map(Path, words)),
    is_instance=lambda value: isinstance(value, tuple) and all(isinstance(path, Path) for path in value),
    str_from_instance=lambda paths: list(map(str, paths)),
)
WORDS = tyro.constructors.PrimitiveConstructorSpec[tuple[str, ...]](
    nargs="*",
    metavar="[TEXT [TEXT ...]]",
    instance_from_str=tuple,
    is_instance=lambda value: isinstance(value, tuple) and all(isinstance(word, str) for word in value),
    str_from_instance=list,
)
# How help looks: --json without --no-json, PATH and not {None}|PATH, MODEL where a model stands without a name. An
# older tyro that lacks one of them shows its own form.
STYLE = [
    getattr(tyro.conf, name)
    for name in ("FlagCreatePairsOff", "DisallowNone", "PositionalMetavarFromFieldName")
    if hasattr(tyro.conf, name)
]
EXAMPLE = re.compile(r" *(python -m|torchrun) ")


def parse(options: type[Options], module: str, documentation: str | None) -> Options:
    """The command line of `python -m module`; `--help` shows the module's own first lines, and its examples last."""
    lines = (documentation or "").splitlines()
    examples = [f"  {line.strip()}" for line in lines if EXAMPLE.match(line)]
    description = re.sub(r"\n{3,}", "\n\n", "\n".join(line for line in lines if not EXAMPLE.match(line)))
    words, told = _unnamed(options, sys.argv[1:]), io.StringIO()
    if any(word.startswith("--config") for word in words):
        from runtime.support.config_file import with_config

        words = with_config(options, words)
    try:
        with redirect_stderr(told):
            return tyro.cli(options, prog=f"python -m {module}", description=description, args=words, config=STYLE)
    except SystemExit as end:
        if end.code:
            from runtime.support.usage_errors import complaint

            sentence = complaint(options, words, told.getvalue())
            raise ShrikeError(f"{sentence} (python -m {module} --help shows all options)") from None
        if examples:
            print("examples:", *examples, sep="\n")
        sys.stdout.flush()  # while a reader that has gone can still be told from a bug
        raise


def _unnamed(options: Any, words: list[str]) -> list[str]:
    """Where a model stands without a name, --model may name it all the same."""
    words = [part for word in words for part in (word.split("=", 1) if word.startswith("--model=") else [word])]
    if "--model" not in words:
        return words
    from runtime.support.usage_errors import names

    positional = names(options)[0]
    start = words.index("--model")
    end = start + 1
    while end < len(words) and not words[end].startswith("-") and (end == start + 1 or "models" in positional):
        end += 1
    if not {"model", "models"} & set(positional):
        return words
    return [*words[start + 1 : end], *words[:start], *words[end:]]


def run(main: Callable[[], int | None]) -> NoReturn:
    """Call `main` and leave the process with its exit code."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - as long as the process lasts
    try:
        code = main() or 0
        sys.stdout.flush()
    except ShrikeError as error:
        print(f"{error.kind}: {error}", file=sys.stderr)
        code = error.code
    except BrokenPipeError:
        _silence()
        code = 0
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        code = 0  # rich has seen that the reader went, and says 1
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        what = printable(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else "stdout"
        _silence()
        print(f"error: {what}: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        code = 130
    sys.exit(code)


def _silence() -> None:
    """The reader (head, less) has gone, or the disk is full: Python would complain when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
