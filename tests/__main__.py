"""Pass the tests: builds .venv when it does not fit, then runs pytest in it.

    python3 -m tests                    # everything
    python3 -m tests tests/train -k cache

Standard library alone, so that it works before anything is installed.
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


def prepare() -> Path:
    """The interpreter of an environment that holds the extra `dev` as setup.cfg names it now."""
    if sys.version_info < (3, 10):  # noqa: UP036 - older ones start this file, too
        sys.exit(f"error: Python {sys.version.split()[0]} is too old; Shrike needs 3.10 or newer")
    wanted = hashlib.sha256((ROOT / "setup.cfg").read_bytes()).hexdigest()
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == wanted:
        return PYTHON
    print(f"installing the extra dev into {VENV}: torch is large, this takes minutes", file=sys.stderr)
    if not PYTHON.exists():
        venv.create(VENV, with_pip=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*pip, "--editable", f"{ROOT}[dev]"]).returncode:
        sys.exit("error: the installation failed; pip's reason stands above")
    STAMP.write_text(wanted)
    return PYTHON


def main() -> int:
    return subprocess.run([str(prepare()), "-m", "pytest", *sys.argv[1:]], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
