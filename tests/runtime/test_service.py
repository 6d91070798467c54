"""The systemd unit: what systemd takes, with what the configuration needs, and only files of ours are touched."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.service.unit import MARK, Plan, quoted, render, unreadable, verify, written

ROOT = Path(__file__).resolve().parents[2]
needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
CONFIG = 'mic = true\ndevice = ["USB"]\njson = true\nwebhook = "https://example.org/alerts"\n'


def service(*words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "runtime.service", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "a door.toml"
    path.write_text(CONFIG)
    return path


def entries(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@needs_systemd
@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("run_as", ["", "root"])
@pytest.mark.parametrize(
    "values",
    [{}, {"webhook": "https://x"}, {"model": "/opt/model.engine"}, {"keep-evidence": "/srv/a folder/%i"}],
    ids=["plain", "network", "gpu", "folder"],
)
def test_systemd_takes_every_form_of_the_unit(user: bool, run_as: str, values: dict[str, object]) -> None:
    plan = Plan("shrike", Path("/etc/50 % $HOME \"quoted\" 'x'.toml"), user, "" if user else run_as)
    text = render(plan, values)
    assert verify("shrike", text, user) == []
    assert verify("shrike", text.replace("Restart=always", "Restart=sometimes"), user) != []  # it does check


def test_rights_follow_the_configuration() -> None:
    plan = Plan("shrike", Path("/etc/shrike.toml"), False)
    closed, networked = entries(render(plan, {})), entries(render(plan, {"on-change": "x"}))
    assert closed["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert "AF_INET6" in networked["RestrictAddressFamilies"][0].split()
    assert closed["DevicePolicy"] == ["closed"] and "MemoryMax" in closed
    gpu = entries(render(plan, {"provider": "cuda"}))
    assert not {"DevicePolicy", "DeviceAllow", "ProtectClock", "MemoryMax"} & gpu.keys()
    assert written({"keep-evidence": "/srv/e", "record": "/srv/r/x.flac", "plot": "x.png"}) == ["/srv/e", "/srv/r"]


def test_the_service_starts_again_unless_the_configuration_is_at_fault() -> None:
    from runtime.support.config_file import ConfigError

    found = entries(render(Plan("shrike", Path("/etc/shrike.toml"), False), {}))
    assert found["Restart"] == ["always"] and found["RestartPreventExitStatus"] == [str(ConfigError.code)]


@pytest.mark.parametrize("word", ["plain", "a b", 'q"q', "50%", "$HOME", "back\\slash", "#", "", ";"])
def test_words_are_quoted_so_that_systemd_reads_them_back(word: str) -> None:
    """By systemd's rules: double quotes, C's escapes, doubled percent signs, and in commands doubled dollar signs."""
    for command in (False, True):
        text = quoted(word, command)
        inner = text[1:-1] if text.startswith('"') else text
        assert (" " not in text and text) or text.startswith('"')
        inner = inner.replace("$$", "$") if command else inner
        assert inner.replace("%%", "%").replace('\\"', '"').replace("\\\\", "\\") == word


def test_a_dry_run_prints_the_unit_and_writes_nothing(tmp_path: Path, config: Path) -> None:
    done = service("install", "--config", config, "--user", "--folder", tmp_path / "units", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(MARK) and sys.executable in done.stdout and str(config) in done.stdout
    assert not (tmp_path / "units").exists()


def test_install_show_and_remove(tmp_path: Path, config: Path) -> None:
    folder = tmp_path / "units"
    where = ("--user", "--folder", folder, "--name", "door")
    for _ in range(2):  # installing again replaces the unit
        done = service("install", "--config", config, *where)
        assert done.returncode == 0, done.stderr
    (path,) = folder.iterdir()
    assert path.name == "door.service" and path.read_text() in service("show", *where).stdout
    assert service("remove", *where, "--dry-run").returncode == 0 and path.exists()
    assert service("remove", *where).returncode == 0 and not path.exists()
    for action in ("show", "remove"):
        assert service(action, *where).returncode == 2
    assert config.exists()


def test_units_of_others_stay(tmp_path: Path, config: Path) -> None:
    path = tmp_path / "shrike.service"
    path.write_text("[Unit]\nDescription=mine\n")
    for words in (("install", "--config", config), ("remove",)):
        done = service(*words, "--user", "--folder", tmp_path)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert path.read_text() == "[Unit]\nDescription=mine\n"


@pytest.mark.parametrize(
    "text", ["mick = true", "mic = true\nthreads = 'x'", "demo = true", "mic = true\nmodel = 'absent'", "mic = "]
)
def test_a_wrong_configuration_is_not_installed(tmp_path: Path, text: str) -> None:
    path = tmp_path / "shrike.toml"
    path.write_text(text)
    done = service("install", "--config", path, "--user", "--folder", tmp_path / "units")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "units").exists()


@pytest.mark.parametrize(
    "words",
    [("install",), ("install", "--config", "absent.toml"), ("show", "--name", "../x"), ("show", "--name", "a/b"), ()]
    + [("start",), ("show", "--user", "--run-as", "root"), ("install", "--config", "x", "--run-as", "a b")],
)
def test_wrong_words_are_one_line(words: tuple[str, ...]) -> None:
    done = service(*words)
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stdout == ""


def test_a_system_service_needs_files_that_all_may_read(tmp_path: Path) -> None:
    config = tmp_path / "closed" / "shrike.toml"
    config.parent.mkdir()
    config.write_text(CONFIG)
    config.parent.chmod(0o700)
    assert unreadable(Plan("shrike", config, False)) is not None
