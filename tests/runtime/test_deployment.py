"""The files in docs/deploy.md: a unit that systemd takes, an image whose file adds up, options that exist.

No Jetson and no Docker daemon are needed, and so the image itself is not built here.
"""

import json
import re
import shlex
import subprocess
from pathlib import Path

import tyro

from runtime.stream import Options, check

ROOT = Path(__file__).resolve().parents[2]
DOCS = (ROOT / "docs" / "deploy.md").read_text("utf-8")
INSTRUCTIONS = {"FROM", "RUN", "COPY", "WORKDIR", "ENTRYPOINT", "CMD", "ENV", "USER", "VOLUME"}


def fenced(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)
    return str(found)


def options_of(words: list[str]) -> Options:
    """As `python -m runtime.stream` would take them; what it cannot parse or contradicts itself fails the test."""
    options = tyro.cli(Options, args=words, console_outputs=False)
    check(options)
    return options


def dockerfile() -> list[tuple[str, str]]:
    """Instruction and what stands after it; a backslash goes on in the next line."""
    text = re.sub(r"\\\n\s*", "", fenced("dockerfile"))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in text.splitlines() if line and line[0] != "#"]


# ---- the image


def test_the_images_file_adds_up() -> None:
    steps = dockerfile()
    names = [name for name, _ in steps]
    assert names[0] == "FROM" and set(names) <= INSTRUCTIONS and names.count("ENTRYPOINT") == names.count("CMD") == 1
    assert re.fullmatch(r"[\w.-]+(/[\w.-]+)+:[\w.-]+", steps[0][1]) and not steps[0][1].endswith(":latest")
    folder = ""
    for name, rest in steps:
        if name == "WORKDIR":
            folder = rest
        if name == "COPY":
            *sources, target = rest.split()
            assert all((ROOT / source).exists() for source in sources) and target == "/opt/shrike"
        if name == "RUN":
            assert subprocess.run(["bash", "-n", "-c", rest]).returncode == 0
            assert "apt-get install" not in rest or ("apt-get update" in rest and "rm -rf /var/lib/apt/lists" in rest)
    entry, words = (json.loads(rest) for name, rest in steps if name in ("ENTRYPOINT", "CMD"))
    assert folder == "/opt/shrike" and entry == [".venv/bin/python", "-m", "runtime.stream"]
    assert options_of(words).mic
    (venv,) = (rest for name, rest in steps if "-m venv" in rest)
    assert "--system-site-packages .venv && .venv/bin/pip install" in venv and venv.endswith(" .")


def test_what_the_image_copies_leaves_out_this_machine_and_keeps_the_models() -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert {".git", ".venv", "runs"} <= set(ignored)
    for needed in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "runtime", "runtime/models/f0.onnx"):
        assert (ROOT / needed).exists()
        assert not any(Path(needed).match(pattern) for pattern in ignored), needed


def test_the_container_is_given_the_folder_whose_model_it_runs() -> None:
    (run,) = re.findall(r"docker run (.*?)\\\n(.*)$", DOCS, re.MULTILINE)
    assert options_of(shlex.split(run[1])).model == "/deploy/model.engine"
    mounted = re.search(r'-v "\$PWD/deploy:(\S+)"', run[0])
    assert mounted and mounted[1] == "/deploy"
