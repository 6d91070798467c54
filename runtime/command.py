"""The frame around every command: what a user caused is one line and exit 2, a traceback means a bug of ours.

    def main() -> None:
        options = parse(Options, "train.score", __doc__)   # a frozen dataclass; its fields' docstrings are the help

    if __name__ == "__main__":
        run(main)

Exit codes: 0 done, 1 a bug (traceback), 2 the user can mend it, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import tyro

from runtime.errors import ShrikeError

Options = TypeVar("Options")

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


def parse(options: type[Options], module: str, documentation: str | None) -> Options:
    """The command line of `python -m module`; `--help` shows the module's own first lines."""
    # tyro joins lines that begin with a letter; an example is a line of its own.
    description = re.sub(r"(?m)^ *(?=python -m|torchrun)", "$ ", documentation or "")
    return tyro.cli(options, prog=f"python -m {module}", description=description)


def run(main: Callable[[], int | None]) -> NoReturn:
    """Call `main` and leave the process with its exit code."""
    try:
        code = main() or 0
        sys.stdout.flush()
    except ShrikeError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except BrokenPipeError:
        # The reader (head, less) has gone: normal in a pipe. Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        code = 130
    sys.exit(code)
