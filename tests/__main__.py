"""Run the tests: build .venv when it does not fit setup.cfg, then run pytest in it.

    python3 -m tests                    # everything, in as many processes as there are cores (at most four)
    python3 -m tests --fast             # under a minute: without corpus, subprocesses and training
    python3 -m tests tests/train -k cache
    python3 -m tests --prepare          # only build .venv

Needs the standard library alone, so that it works before anything is installed. Other options go to pytest.
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(os.environ.get("SHRIKE_VENV", ROOT / ".venv"))
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "shrike-dev"  # what was installed: the hash of setup.cfg, written last
# A file's tests stay in one process: they share its fixtures. One thread each, or the processes wait for one another.
PARALLEL = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadfile")


def prepare() -> Path:
    """Return the interpreter of an environment that holds the extra `dev` as setup.cfg defines it now."""
    if sys.version_info < (3, 10):  # noqa: UP036 - older ones start this file, too
        sys.exit(f"error: Python {sys.version.split()[0]} is too old; Shrike needs 3.10 or newer")
    wanted = hashlib.sha256((ROOT / "setup.cfg").read_bytes()).hexdigest()
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == wanted:
        return PYTHON
    print(f"installing Shrike with its extra dev into {VENV}: torch is large, this takes minutes", file=sys.stderr)
    if not PYTHON.exists():
        venv.create(VENV, with_pip=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*pip, "--editable", f"{ROOT}[dev]"]).returncode:
        sys.exit("error: the installation failed; pip's reason stands above")
    STAMP.write_text(wanted)
    return PYTHON


def main() -> int:
    words = sys.argv[1:]
    if {"-h", "--help"} & {*words}:
        print(__doc__, end="")
        return 0
    python = prepare()
    if "--prepare" in words:
        return 0
    few = any((ROOT / word.partition("::")[0]).exists() for word in words)  # starting processes would take longer
    own = any(word.startswith(("-n", "--dist", "--pdb", "-s", "--collect-only")) for word in words)
    parallel = () if few or own else PARALLEL
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    return subprocess.run([str(python), "-m", "pytest", *parallel, *words], cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
