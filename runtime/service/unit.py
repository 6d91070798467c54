"""The systemd unit of a stream, from its configuration.

    text = render(Plan(name="shrike", config=Path("/etc/shrike.toml"), user=False), read_toml(path))
    problems = verify("shrike", text, user=False)

The unit gives the process what the configuration needs and nothing else: no network without an alert that uses it, no
devices but sound while the model runs on the CPU, one writable folder besides those that the configuration names.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.support.config_file import ConfigError
from runtime.support.errors import ShrikeError

MARK = "# Written by python -m runtime.service; changes are lost when it is installed again."
CONFIG_ERROR = ConfigError.code  # of the stream: starting again cannot help
RESTART = 10  # s between an end and the next start
STOP = 30  # s for the last alerts, evidence and summary
MEMORY = 512  # MB; the stream is built to stay below 120 on a CPU
ROOT = Path(__file__).resolve().parents[2]  # the folder that holds the package `runtime`
HOMES = (Path("/home"), Path("/root"), Path("/run/user"))

CPU_DEVICES = ("ProtectClock=yes", "DevicePolicy=closed", "DeviceAllow=char-alsa rw")
SYSTEM_HARDENING = (
    "CapabilityBoundingSet=", "PrivateTmp=yes", "ProtectControlGroups=yes", "ProtectHostname=yes",
    "ProtectKernelLogs=yes", "ProtectKernelModules=yes", "ProtectKernelTunables=yes", "ProtectSystem=strict",
    "RestrictNamespaces=yes",
)  # fmt: skip
HARDENING = (
    "LockPersonality=yes", "NoNewPrivileges=yes", "RestrictSUIDSGID=yes", "SystemCallArchitectures=native",
    "UMask=0077",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Which unit to write."""

    name: str
    config: Path  # absolute
    user: bool  # a unit of the user's own service manager, not of the system's
    run_as: str = ""  # account of a system unit; empty: one that systemd makes for it


def render(plan: Plan, values: Mapping[str, Any]) -> str:
    """Return the unit. `values`: of the configuration, names with dashes."""
    words = [sys.executable, "-m", "runtime.stream", "--config", str(plan.config)]
    environment = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    if not _installed():
        environment["PYTHONPATH"] = str(ROOT)
    lines = [
        *(MARK, "[Unit]", f"Description=Shrike, fake-speech detector ({plan.name})"),
        *("After=sound.target network.target", "StartLimitIntervalSec=0"),
        *("", "[Service]", "Type=exec", f"ExecStart={' '.join(quoted(word, command=True) for word in words)}"),
        f"Environment={' '.join(quoted(f'{name}={value}') for name, value in environment.items())}",
        *(f"StateDirectory={plan.name}", f"WorkingDirectory=%S/{plan.name}"),
        *("Restart=always", f"RestartSec={RESTART}", f"RestartPreventExitStatus={CONFIG_ERROR}"),
        *("KillMode=mixed", f"TimeoutStopSec={STOP}", *_rights(plan, values)),
        *("", "[Install]", f"WantedBy={'default.target' if plan.user else 'multi-user.target'}", ""),
    ]
    return "\n".join(lines)


def _rights(plan: Plan, values: Mapping[str, Any]) -> list[str]:
    """Account, devices, network and folders."""
    network = "AF_UNIX AF_INET AF_INET6" if {"webhook", "on-change"} & values.keys() else "AF_UNIX"
    lines = [*HARDENING, f"RestrictAddressFamilies={network}"]
    if on_cpu(values):
        lines.append(f"MemoryMax={MEMORY}M")
    if plan.user:
        return lines
    in_home = any(path.is_relative_to(home) for path in needed(plan) for home in HOMES)
    lines += [f"User={plan.run_as}" if plan.run_as else "DynamicUser=yes", "SupplementaryGroups=audio"]
    lines += [*SYSTEM_HARDENING, f"ProtectHome={'read-only' if in_home else 'yes'}"]
    if on_cpu(values):
        lines += CPU_DEVICES
    return lines + [f"ReadWritePaths={quoted(folder)}" for folder in written(values)]


def on_cpu(values: Mapping[str, Any]) -> bool:
    """True if the model needs neither a GPU's devices nor its memory."""
    engine = values.get("engine", "auto") == "tensorrt" or str(values.get("model", "")).endswith(".engine")
    return not engine and values.get("provider", "cpu") == "cpu"


def needed(plan: Plan) -> list[Path]:
    """Files and folders that the process reads."""
    python = Path(sys.executable)
    return [python, python.resolve(), ROOT, plan.config]


def written(values: Mapping[str, Any]) -> list[str]:
    """Folders outside the service's own that the configuration writes to."""
    folders = {str(values.get("keep-evidence", ""))}
    folders |= {os.path.dirname(str(values.get(name, ""))) for name in ("record", "plot")}
    return sorted(folder for folder in folders if folder.startswith("/"))


def unreadable(plan: Plan) -> Path | None:
    """Return the first needed path that an account without rights of its own cannot read."""
    for path in needed(plan):
        for part in (*reversed(path.parents), path):
            mode = part.stat().st_mode
            if not mode & (0o001 if part.is_dir() else 0o004):
                return part
    return None


def quoted(word: str, command: bool = False) -> str:
    """Return a word for a line of a unit: percent signs are expanded there, in a `command` dollar signs as well."""
    if not word.isprintable():
        raise ShrikeError(f"{word!r}: expected a path of printable characters; rename it")
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    plain = plain.replace("$", "$$") if command else plain
    return plain if plain and not set(plain) & set(" '\"\\;#") else f'"{plain}"'


def verify(name: str, text: str, user: bool) -> list[str]:
    """Return what systemd-analyze finds wrong with a unit; nothing where it is not installed."""
    program = shutil.which("systemd-analyze")
    if program is None:
        return []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.service"
        path.write_text(text)
        words = [program, "verify", *(["--user"] if user else []), str(path)]
        environment = {"XDG_RUNTIME_DIR": folder} | dict(os.environ)  # a session without one has no user manager
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return [line for line in done.stderr.splitlines() if path.name in line]


def _installed() -> bool:
    """True if the interpreter finds this very package from any folder."""
    words = [sys.executable, "-c", "import runtime; print(runtime.__file__)"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd="/", env=environment, capture_output=True, text=True, check=False)
    return done.returncode == 0 and Path(done.stdout.strip()).resolve().parents[1] == ROOT
