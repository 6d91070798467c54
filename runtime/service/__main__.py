"""Install a stream as a systemd service: it starts with the machine and again after every error.

    python -m runtime.service install --config /etc/shrike.toml --dry-run
    python -m runtime.service install --config /etc/shrike.toml --enable
    python -m runtime.service show
    python -m runtime.service remove

The configuration is that of `python -m runtime.stream --config`, with `mic = true`. It is checked before anything is
written, and so is the unit where systemd-analyze is installed. Relative paths in it lie in the service's own folder,
/var/lib/NAME.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Optional

import tyro

from runtime.service.unit import MARK, ROOT, Plan, render, unreadable, verify
from runtime.support.atomic import atomic_file
from runtime.support.command import parse, run
from runtime.support.config_file import ConfigError, read_toml
from runtime.support.errors import ShrikeError, say

SYSTEM = Path("/etc/systemd/system")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


@dataclass(frozen=True)
class Options:
    """Write, show or remove the systemd unit of a stream."""

    action: tyro.conf.Positional[Literal["install", "show", "remove"]] = "show"
    """install writes the unit, show prints it, remove stops the service and deletes it."""
    config: Optional[Path] = None  # noqa: UP045 - runtime.support.command gives the reason
    """TOML file of the stream's options; install needs it."""
    name: str = "shrike"
    """Name of the service; another name runs a second one."""
    user: bool = False
    """A service of your own account, which may use PulseAudio or PipeWire, instead of the system's."""
    run_as: str = ""
    """Account of a system service; by default systemd makes one without any rights."""
    folder: Optional[Path] = None  # noqa: UP045
    """Where the unit lies, instead of systemd's own folder; systemd is then not called."""
    enable: bool = False
    """Start the service now and with the machine."""
    dry_run: bool = False
    """Print what would be written or removed, and change nothing."""


def main() -> int:
    options = parse(Options, "runtime.service", __doc__, config_file=False)
    check(options)
    path = unit_path(options)
    if options.action == "install":
        return install(options, path)
    text = read_unit(path)
    if options.action == "show":
        print(f"# {path}\n{text}", end="")
        return 0
    return remove(options, path, text)


def check(options: Options) -> None:
    """Validate the options before anything is read or written."""
    if not NAME.fullmatch(options.name):
        raise ShrikeError(f"--name {options.name}: expected letters, digits, dots and dashes")
    if options.run_as and not ACCOUNT.fullmatch(options.run_as):
        raise ShrikeError(f"--run-as {options.run_as}: expected the name of an account")
    if options.run_as and options.user:
        raise ShrikeError("--run-as: expected a system service; leave out --user or --run-as")
    if options.action == "install" and options.config is None:
        raise ShrikeError("install: expected --config FILE, the TOML file of the stream's options")
    if options.enable and options.folder:
        raise ShrikeError("--enable: expected systemd's own folder; leave out --folder or --enable")


def unit_path(options: Options) -> Path:
    """Path of the unit."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    folder = options.folder or (home / "systemd" / "user" if options.user else SYSTEM)
    return folder / f"{options.name}.service"


def install(options: Options, path: Path) -> int:
    """Check configuration and unit, then write it."""
    assert options.config is not None
    plan = Plan(options.name, Path(os.path.abspath(options.config)), options.user, options.run_as)
    try:
        values = read_toml(plan.config)
    except ConfigError as error:
        raise ShrikeError(str(error)) from error  # with the exit code of every other command
    check_stream(plan.config, values)
    if not plan.user and not plan.run_as and (closed := unreadable(plan)):
        raise ShrikeError(
            f"{closed}: expected a path that all accounts can read; move it to /opt or /etc, "
            "or give --run-as NAME or --user"
        )
    text = render(plan, values)
    if problems := verify(plan.name, text, plan.user):
        raise ShrikeError(f"the unit does not pass systemd-analyze: {problems[0]}; use a newer systemd")
    if options.dry_run:
        print(text, end="")
        return 0
    if path.exists() and not read_unit(path).startswith(MARK):
        raise ShrikeError(f"{path} expected a unit that this command wrote; remove it, or give another --name")
    with atomic_file(path) as temporary:
        temporary.write_text(text)
        temporary.chmod(0o644)
    print(path)
    systemctl(options, "daemon-reload")
    if options.enable:
        systemctl(options, "enable", path.stem)
        systemctl(options, "restart", path.stem)
    elif options.folder is None:
        say(f"start it with: {' '.join(['systemctl', *manager(options), 'enable --now', path.stem])}")
    if options.user and options.folder is None:
        say("to run it without a login: loginctl enable-linger")
    return 0


def check_stream(config: Path, values: dict[str, object]) -> None:
    """Let the stream check its configuration, in a folder where relative paths of a model do not exist."""
    if values.get("mic") is not True:
        raise ShrikeError(f"{config}: expected mic = true; a service scores a microphone")
    words = [sys.executable, "-m", "runtime.stream", "--config", str(config), "--check"]
    search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(words, cwd="/", env=os.environ | {"PYTHONPATH": search}, capture_output=True, text=True)
    if done.returncode == 0:
        return
    reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1].removeprefix("error: ")
    raise ShrikeError(reason)


def remove(options: Options, path: Path, text: str) -> int:
    """Stop the service and delete its unit; configuration and kept sound stay."""
    if not text.startswith(MARK):
        raise ShrikeError(f"{path} expected a unit that this command wrote; remove it yourself")
    print(path)
    if options.dry_run:
        return 0
    systemctl(options, "disable", "--now", path.stem)
    path.unlink()
    systemctl(options, "daemon-reload")
    return 0


def read_unit(path: Path) -> str:
    """Text of an installed unit."""
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        raise ShrikeError(f"{path} does not exist; write it with: python -m runtime.service install") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ShrikeError(f"{path}: cannot be read ({error})") from error


def systemctl(options: Options, *words: str) -> None:
    """Call systemd, where it runs and the unit lies in its folder."""
    if options.folder is not None:
        return
    program = shutil.which("systemctl")
    if program is None or not Path("/run/systemd/system").is_dir():
        say(f"systemd does not run here: {words[0]} is left out")
        return
    done = subprocess.run([program, *manager(options), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise ShrikeError(f"systemctl {words[0]}: {reason}; check: systemctl status {options.name}")


def manager(options: Options) -> list[str]:
    """Option of systemctl that chooses the service manager."""
    return ["--user"] if options.user else []


if __name__ == "__main__":
    run(main)
