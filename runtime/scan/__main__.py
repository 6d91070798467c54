"""Judge files: real or fake, one line each, and one row each of a table.

    python -m runtime.scan call.wav
    python -m runtime.scan calls/ --csv verdicts.csv
    python -m runtime.scan calls/ --json verdicts.jsonl --workers 4
    python -m runtime.scan call.wav --every 0.5
    python -m runtime.scan upload.wav --fail-on spoof && publish upload.wav
    python -m runtime.scan s3://bucket/calls/ --dask tcp://scheduler:8786 --csv verdicts.csv

Folders are searched for sound files; URLs are those that fsspec opens. A table is written row by row: after a kill or
Ctrl-C the same command goes on.
Exit codes: 0 done, 2 a file could not be scored, 10 a file is spoof (with --fail-on spoof or unsure), 11 a file is
unsure (with --fail-on unsure), 130 stopped by Ctrl-C. Of several, 10 comes before 2, and 2 before 11.
"""

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Optional

import tyro

from runtime.audio.channels import Channel
from runtime.card.model_card import card_path, sha256_file
from runtime.engines.model_loader import FILE_DEFAULT, Kind, LoadedModel, find_model, load_model
from runtime.scan.cluster import LOCAL, score_on_cluster
from runtime.scan.files import find_files, place, read_list
from runtime.scan.progress import ScanProgress
from runtime.scan.remote import FileAccess
from runtime.scan.results import Form, ResultFile, Settings
from runtime.scan.workers import EVERY, Result, Setup, covering, file_state, score_files
from runtime.summary import BORDERLINE, plural
from runtime.support.command import discard_stdout, parse, run, several
from runtime.support.errors import ShrikeError, printable, say
from runtime.support.extras import require_package
from runtime.support.shutdown import Stop
from runtime.verdict import UNFITTED

SPOOF, UNSURE, STOPPED = 10, 11, 130  # exit codes
PLACES = several(place, "[PATH|URL ...]")


@dataclass(frozen=True)
class Options:
    """Judge sound files."""

    paths: Annotated[tyro.conf.Positional[tuple], PLACES] = ()
    """Sound files, and folders of them; URLs (s3://, gs://, https:// and others of fsspec) of both."""
    list: Optional[Path] = None  # noqa: UP045 - runtime.support.command gives the reason
    """Text file with further paths and URLs, one a line."""
    csv: Optional[Path] = None  # noqa: UP045
    """Write a table to this CSV file, or go on with it."""
    json: Optional[Path] = None  # noqa: UP045
    """The same as JSON Lines: an object a file."""
    overwrite: bool = False
    """Start the table anew."""
    fail_on: Literal["never", "spoof", "unsure"] = "never"
    """Exit with 10 if a file is spoof; unsure: also with 11 if one is unsure."""
    every: float = EVERY
    """Seconds between the ends of two windows; voice after the last one gets one more."""
    channel: Optional[Channel] = None  # noqa: UP045
    """left, right, mix or each; default: each of two channels that differ, and the worst counts; else the mix."""
    workers: Optional[int] = None  # noqa: UP045
    """Processes on this machine; default: as many as cores, at most one a file."""
    dask: Optional[str] = None  # noqa: UP045
    """Score on a Dask cluster: the address of its scheduler, or local to start one here."""
    max_mb: int = 1000
    """Largest file of a URL in MB."""
    timeout: float = 300.0
    """Seconds until a file of a URL has arrived."""
    model: str = FILE_DEFAULT
    """accurate, edge, f0, or a path to model.onnx or model.engine with its card beside it."""
    engine: Kind = "auto"
    """Backend. auto: TensorRT if an engine beside the model runs on this machine, else ONNX Runtime."""
    provider: str = "cpu"
    """Execution provider of ONNX Runtime: cpu, cuda, tensorrt, openvino, coreml, xnnpack, dml, if installed."""
    threads: int = 1
    """CPU threads of the model in each process; 0: ONNX Runtime's choice."""
    prior: float = 0.5
    """Share of fake speech that you expect; P(spoof) follows from it and from the likelihood ratio."""
    sure: Optional[float] = None  # noqa: UP045
    """Operating point: P(spoof) from which the state becomes spoof, bonafide at 1 - P; default: the card's, and 0.3."""


def check(options: Options) -> None:
    """Validate options before opening anything."""
    if not (options.paths or options.list):
        raise ShrikeError("expected sound files or folders (--help shows examples)")
    if options.csv and options.json:
        raise ShrikeError("--csv and --json: expected one of them")
    if str(options.csv or options.json) == "-":
        raise ShrikeError("--csv and --json: expected a file; without them results go to stdout, a line for each file")
    if options.workers is not None and options.workers < 1:
        raise ShrikeError(f"--workers {options.workers}: expected 1 or more")
    if options.workers and options.dask not in (None, LOCAL):
        raise ShrikeError("--workers: expected --dask local with it; a cluster has as many as were started for it")
    if options.max_mb < 1:
        raise ShrikeError(f"--max-mb {options.max_mb}: expected 1 or more")
    if not 0 < options.timeout <= 1e6:
        raise ShrikeError(f"--timeout {options.timeout}: expected more than 0 seconds")


def main() -> int:
    options = parse(Options, "runtime.scan", __doc__)
    check(options)
    if options.dask:
        require_package("distributed")
    paths, errors = find_files([*options.paths, *(read_list(options.list) if options.list else ())])
    if errors and not paths:
        raise ShrikeError("; ".join(errors))
    target = options.csv or options.json
    with ExitStack() as stack:
        stop = stack.enter_context(Stop())
        model = load_model(find_model(options.model), options.engine, options.threads, options.provider)
        stack.callback(model.engine.close)
        verdicts = covering(model, options.every, options.prior, options.sure)
        access = FileAccess(most=options.max_mb * 1_000_000, timeout=options.timeout)
        chosen = options.channel, options.threads, access
        setup = Setup(options.model, options.engine, options.provider, verdicts, *chosen)
        setup.session(model)  # checks the verdict options
        say(f"{model.name} ({model.card.precision}) with {model.backend}")
        if model.card.score.fitted_on is None:
            say(UNFITTED)
        table, states, close = None, Counter[str](), False
        for error in errors:
            say(f"error: {error}")
            states["error"] += 1
        if target:
            form: Form = "csv" if options.csv else "json"
            table = stack.enter_context(ResultFile(target, form, settings(options, model), options.overwrite))
            kept = {path: row["state"] for path in paths if (row := table.row(path))}
            if kept:
                say(f"{target} has {len(kept):,} of {plural(len(paths), 'file')} already")
            states.update(kept.values())
            paths = [path for path in paths if path not in kept]
        progress = ScanProgress([max(file_state(path)[0], 0) for path in paths])
        workers = min(options.workers or cores(), len(paths))
        if options.dask and paths:
            results = score_on_cluster(options.dask, setup, model, paths, workers, stop)
        else:
            results = score_files(setup, model, paths, workers, stop)
        for result in results:
            if table:
                table.add(result)
            progress.clear()
            close |= result.summary is not None and "borderline" in result.summary.flags
            states[show(result, bool(table) or options.fail_on != "never")] += 1
            progress.step(result)
        progress.clear()
        if table and not stop.requested:
            table.complete()
        counts = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
        if close:
            say(BORDERLINE)
        say(f"{counts or 'no file'}; {progress.total()}")
        if stop.requested:
            say("stopped" + f"; the same command goes on with {target}" * bool(table))
            return STOPPED
    return exit_code(states, options.fail_on)


def show(result: Result, to_end: bool) -> str:
    """Print the line of one file; return its state, or `error`. `to_end`: go on where the reader of stdout has left."""
    if result.summary:
        try:
            print(result.summary.line(), flush=True)
        except BrokenPipeError:
            if not to_end:
                raise
            discard_stdout()
        return result.summary.state
    say(f"error: {printable(os.fspath(result.path))}: {result.error}")
    return "error"


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def settings(options: Options, model: LoadedModel) -> Settings:
    """Return all that the rows of a table depend on, beside the sound."""
    sha256 = sha256_file(card_path(find_model(options.model)))  # the card lists that of the model
    chosen = f"every {options.every:g}, prior {options.prior:g}, sure {options.sure or 'card'}, {model.backend}"
    chosen += f", channel {options.channel}" if options.channel else ""
    return Settings(model.name, sha256, chosen)


def exit_code(states: Mapping[str, int], fail_on: str) -> int:
    """Return the exit code: 10 comes before 2, and 2 before 11."""
    if fail_on != "never" and states.get("spoof"):
        return SPOOF
    if states.get("error"):
        return 2
    return UNSURE if fail_on == "unsure" and states.get("unsure") else 0


if __name__ == "__main__":
    run(main)
