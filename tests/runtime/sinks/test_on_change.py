"""--on-change: real commands, among them some that hang, are missing or print."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime.sinks import on_change as module
from runtime.sinks.on_change import OnChange
from runtime.support.errors import ShrikeError
from tests.runtime.sinks.change_feed import change

WRITE = "import json, os, sys; json.dump([json.load(sys.stdin), dict(os.environ)], open(sys.argv[1], 'w'))"


def python(program: str, *words: object) -> str:
    """A command line for --on-change."""
    import shlex

    return shlex.join([sys.executable, "-c", program, *map(str, words)])


def test_the_command_gets_the_change_on_stdin_and_in_its_environment(tmp_path: Path) -> None:
    target, messages = tmp_path / "a folder" / "change.json", list[str]()
    target.parent.mkdir()
    runner = OnChange(python(WRITE, target), messages.append)
    runner.send(change())
    runner.close()
    entries, environment = json.loads(target.read_text())
    assert entries == change().entries() and messages == []
    assert environment["SHRIKE_STATE"] == "spoof" and environment["SHRIKE_PREVIOUS"] == ""
    assert environment["SHRIKE_P_SPOOF"] == "0.9" and environment["SHRIKE_FLAGS"] == "quiet"
    assert environment["PATH"] == os.environ["PATH"]


def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    target = tmp_path / "made"
    runner = OnChange(python("import sys; open(sys.argv[1], 'w').write(sys.argv[2])", target, "$HOME; rm -rf *"), print)
    runner.send(change(source="$(touch hacked)"))
    runner.close()
    assert target.read_text() == "$HOME; rm -rf *"


def test_changes_run_in_their_order(tmp_path: Path) -> None:
    target = tmp_path / "log"
    runner = OnChange(
        python("import os, sys; open(sys.argv[1], 'a').write(os.environ['SHRIKE_T'] + ' ')", target), print
    )
    for number in range(5):
        runner.send(change(number=number))
    until = time.monotonic() + 60  # close() waits for a few seconds only
    while time.monotonic() < until and not (target.is_file() and "4" in target.read_text()):
        time.sleep(0.05)
    runner.close()
    assert target.read_text().split() == ["0", "1", "2", "3", "4"]


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    pids, messages = tmp_path / "pids", list[str]()
    program = (
        "import os, subprocess, sys, time; child = subprocess.Popen(['sleep', '600']);"
        "open(sys.argv[1], 'w').write(f'{os.getpid()} {child.pid}'); time.sleep(600)"
    )
    runner = OnChange(python(program, pids), messages.append, timeout=2.0)
    began = time.monotonic()
    runner.send(change())
    assert time.monotonic() - began < 1.0  # putting never waits
    until(lambda: bool(messages))
    runner.close()
    assert len(messages) == 1
    until(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))


def test_the_end_does_not_wait_for_a_command_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH", 1.0)
    messages = list[str]()
    runner = OnChange("sleep 600", messages.append)
    for number in range(3):
        runner.send(change(number=number))
    until(lambda: runner._process is not None)
    process = runner._process
    assert process is not None
    runner.close()
    until(lambda: process.poll() is not None)
    assert messages  # that some changes were not passed on


def test_failures_are_logged_but_not_a_hundred_times() -> None:
    messages = list[str]()
    runner = OnChange("false", messages.append)
    for number in range(20):
        runner.send(change(number=number))
    runner.close()
    assert len(messages) == 1 and "\n" not in messages[0]


@pytest.mark.parametrize("command", ["", "  ", "no-such-program-here", "sh -c 'open", "/"])
def test_a_command_that_cannot_run_is_refused_at_the_start(command: str) -> None:
    with pytest.raises(ShrikeError):
        OnChange(command, print)


def test_what_the_command_prints_goes_to_stderr() -> None:
    program = (
        "from runtime.sinks.on_change import OnChange\n"
        "from tests.runtime.sinks.change_feed import change\n"
        "runner = OnChange('echo printed', print); runner.send(change()); runner.close()"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.stdout == "" and "printed" in done.stderr


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition: object, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)
