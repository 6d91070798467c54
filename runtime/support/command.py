"""Run a command: errors that the user can fix are one line and exit code 2; a traceback means a bug.

    def main() -> None:
        options = parse(Options, "train.score", __doc__)   # a frozen dataclass; its fields' docstrings are the help

    if __name__ == "__main__":
        run(main)

Exit codes: 0 done, 1 a bug (traceback), 2 an error that the user can fix, 3 completed with an unacceptable result,
130 stopped by Ctrl-C, 143 by SIGTERM.
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

from runtime import __version__
from runtime.support.errors import ShrikeError, printable
from runtime.support.extras import DISTRIBUTION, explain_missing

Options = TypeVar("Options")

FAILED = 3  # exit code: completed, but the result is unacceptable
# System errors that the user can fix. ENOENT is not among them: our own missing file is a bug.
REFUSED = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP,
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE,
}  # fmt: skip


def several(make: Callable[[str], Any], metavar: str) -> Any:
    """Describe an option of any number of values, each made from a word: `Annotated[tuple, several(Path, "[PATH]")]`.

    Use it instead of tuple[Path, ...]: to check the defaults of such types (also of `X | None`, but not of Optional[X])
    tyro imports typeguard, and with it unittest.mock, asyncio and ssl, at every start.
    """
    return tyro.constructors.PrimitiveConstructorSpec[Any](
        nargs="*",
        metavar=metavar,
        instance_from_str=lambda words: tuple(map(make, words)),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda values: list(map(str, values)),
    )


PATHS, WORDS = several(Path, "[PATH [PATH ...]]"), several(str, "[TEXT [TEXT ...]]")
# Help shows --json without --no-json, PATH and not {None}|PATH, MODEL for a positional model. Older versions of tyro
# lack some of these.
STYLE = [
    getattr(tyro.conf, name)
    for name in ("FlagCreatePairsOff", "DisallowNone", "PositionalMetavarFromFieldName")
    if hasattr(tyro.conf, name)
]
EXAMPLE = re.compile(r" *(python -m|shrike|torchrun) ")


def parse(options: type[Options], module: str, documentation: str | None, config_file: bool = True) -> Options:
    """Parse the command line of a module into its options.

    `--help` shows the module's docstring, with its examples last; `--version` prints name and version.
    """
    program = sys.argv[0] if sys.argv[0].startswith("shrike ") else f"python -m {module}"  # runtime.cli sets the former
    lines = (documentation or "").replace(f"python -m {module}", program).splitlines()
    examples = [f"  {line.strip()}" for line in lines if EXAMPLE.match(line)]
    description = re.sub(r"\n{3,}", "\n\n", "\n".join(line for line in lines if not EXAMPLE.match(line)))
    words, box = _without_model(options, sys.argv[1:]), io.StringIO()
    if "--version" in words:
        print(DISTRIBUTION, __version__)
        raise SystemExit(0)
    if config_file and any(word.startswith("--config") for word in words):
        from runtime.support.config_file import with_config

        words = with_config(options, words)
    try:
        with redirect_stderr(box):
            return tyro.cli(options, prog=program, description=description, args=words, config=STYLE)
    except SystemExit as end:
        if end.code:
            from runtime.support.usage_errors import explain

            message = explain(options, words, box.getvalue())
            raise ShrikeError(f"{message} ({program} --help shows all options)") from None
        if examples:
            print("examples:", *examples, sep="\n")
        sys.stdout.flush()  # raises BrokenPipeError here, where run() can handle it
        raise


def _without_model(options: Any, words: list[str]) -> list[str]:
    """Accept `--model X` where the model is a positional argument."""
    words = [part for word in words for part in (word.split("=", 1) if word.startswith("--model=") else [word])]
    if "--model" not in words:
        return words
    from runtime.support.usage_errors import option_names

    positional = option_names(options)[0]
    if not {"model", "models"} & set(positional):
        return words
    start = words.index("--model")
    end = start + 1
    while end < len(words) and not words[end].startswith("-") and (end == start + 1 or "models" in positional):
        end += 1
    return [*words[start + 1 : end], *words[:start], *words[end:]]


def run(main: Callable[[], int | None]) -> NoReturn:
    """Call `main` and exit with its code."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # the parent process closed it
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - open until the process ends
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # escapes instead of a traceback in a locale without UTF-8
            stream.reconfigure(errors="backslashreplace")
    try:
        code = main() or 0
        sys.stdout.flush()
    except ShrikeError as error:
        print(f"{error.kind}: {error}", file=sys.stderr)
        code = error.code
    except ModuleNotFoundError as error:
        if (message := explain_missing(error)) is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        code = 2
    except BrokenPipeError:
        discard_stdout()
        code = 0
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        code = 0  # rich exits with 1 when the reader of stdout has left
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        what = printable(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else "stdout"
        discard_stdout()
        print(f"error: {what}: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        code = 130
    sys.exit(code)


def discard_stdout() -> None:
    """Stop Python from reporting an error when it flushes stdout at exit: the reader has left, or the disk is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
