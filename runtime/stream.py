"""Score speech from a microphone, files or a pipe: real or fake, about eight verdicts a second.

    python -m runtime.stream --demo
    python -m runtime.stream --mic
    python -m runtime.stream --file call.flac
    python -m runtime.stream --file calls/*.flac --together
    python -m runtime.stream --mic --device "USB 1" "USB 2"
    python -m runtime.stream --mic --json > verdicts.jsonl
    python -m runtime.stream --stdin --rate 48000 < sound.raw
    python -m runtime.stream --mic --webhook https://example.org/alerts --keep-evidence evidence
    python -m runtime.stream --config door.toml
    python -m runtime.stream --list-devices

A claim needs 3 s of voice and a full window of 5 s; from 1 s of voice on the state is warming-up. Ctrl-C ends with a
summary. Exit codes: 0 the sound has ended or was stopped, 2 an error that you can fix (one line names it), 5 --stdin
ended without sound, 78 the file of --config cannot be used, 1 a bug.
"""

import os
import sys
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import tyro

from runtime.audio.channels import MIX, Channel
from runtime.engines.model_loader import DEFAULT, Kind
from runtime.sinks.alerts import AlertOptions
from runtime.sources.pcm import Coding
from runtime.support.command import PATHS, WORDS, parse, run
from runtime.support.errors import ShrikeError, say

if TYPE_CHECKING:
    from runtime.audio.features import FrontEnd
    from runtime.engines.model_loader import LoadedModel
    from runtime.session import VerdictOptions
    from runtime.sinks import Sink
    from runtime.sinks.alerts import Alerts
    from runtime.sinks.board import Board
    from runtime.sources import Source
    from runtime.support.shutdown import Stop


@dataclass(frozen=True)
class Options:
    """Score a stream of sound; one of --mic, --file, --stdin and --demo is needed."""

    mic: bool = False
    """Score a microphone."""
    device: Annotated[tuple, WORDS] = ()
    """Microphones, by number or part of the name; one that was unplugged is found again by its name."""
    list_devices: bool = False
    """List the microphones, and exit."""
    file: Annotated[tuple, PATHS] = ()
    """Sound files, one after the other."""
    together: bool = False
    """With --file, score all files at once, each as a stream; every line of the output names its file."""
    realtime: bool = False
    """With --file or --demo, play in real time instead of as fast as possible."""
    stdin: bool = False
    """Raw samples from standard input."""
    rate: int = 16_000
    """Sample rate of --stdin in Hz."""
    dtype: Coding = "s16le"
    """Sample format of --stdin, in ffmpeg's names."""
    channels: int = 1
    """Channels of --stdin, interleaved; --channel chooses from them."""
    channel: Optional[Channel] = None  # noqa: UP045 - runtime.support.command says why
    """left, right, mix, or each of --file; default: each of a file's two channels if they differ, else the mix."""
    demo: bool = False
    """Score a recording of nine seconds, then the same words by a synthesizer."""
    model: str = DEFAULT
    """accurate, edge, f0, or a path to model.onnx or model.engine with its card beside it."""
    engine: Kind = "auto"
    """Backend. auto: TensorRT if an engine beside the model runs on this machine, else ONNX Runtime."""
    provider: str = "cpu"
    """Execution provider of ONNX Runtime: cpu, cuda, tensorrt, openvino, coreml, xnnpack, dml, if installed."""
    threads: int = 1
    """CPU threads of the model; 0: ONNX Runtime's choice."""
    step: Optional[int] = None  # noqa: UP045 - runtime.support.command says why
    """Frames between two verdicts, of 8.125 ms (log-mel: 10 ms); default: 12, or 16 of a streaming model."""
    prior: float = 0.5
    """Share of fake speech that you expect; P(spoof) follows from it and from the likelihood ratio."""
    smoothing: float = 1.0
    """Time constant in seconds of the mean over log-likelihood ratios; 0: no mean."""
    sure: Optional[float] = None  # noqa: UP045
    """Operating point: P(spoof) from which the state becomes spoof, bonafide at 1 - P; default: the card's, and 0.3."""
    json: bool = False
    """Write JSON lines to stdout instead of a view for people; docs/stream.md describes them."""
    plain: bool = False
    """Write plain lines instead of the live view, on a terminal too."""
    record: Optional[Path] = None  # noqa: UP045
    """Record the sound that is scored to this FLAC file."""
    overwrite: bool = False
    """Replace the file of --record if it exists."""
    plot: Optional[Path] = None  # noqa: UP045
    """Plot waveform, bands and scores of one file or the demo to this PNG or PDF; needs matplotlib."""
    alerts: tyro.conf.OmitArgPrefixes[AlertOptions] = field(default_factory=AlertOptions)
    config: Optional[Path] = None  # noqa: UP045
    """TOML file of these options; the command line overrides it."""
    check: bool = False
    """Check options and model, and exit."""


def check(options: Options) -> None:
    """Validate options before opening anything."""
    sources = {"--mic": options.mic, "--file": options.file, "--stdin": options.stdin, "--demo": options.demo}
    chosen = [name for name, given in sources.items() if given]
    if len(chosen) != 1:
        found = " and ".join(chosen) or "no source"
        raise ShrikeError(f"{found}: expected one of --mic, --file FILE, --stdin and --demo (--help shows examples)")
    if options.plot and len(options.file) != 1 and not options.demo:
        raise ShrikeError("--plot: expected one --file, or --demo")
    if options.record and len(options.file) > 1:
        raise ShrikeError("--record: expected one --file, --mic, --stdin or --demo")
    if options.record and options.record.suffix.lower() != ".flac":
        raise ShrikeError(f"--record {options.record}: expected a name that ends in .flac")
    if options.record and (source := _overwritten_source(options)):
        raise ShrikeError(f"--record {options.record}: expected another file than the source {source}")
    if options.record and os.path.lexists(options.record) and not options.overwrite:
        raise ShrikeError(f"--record {options.record}: the file exists; give another name, or --overwrite")
    if options.alerts.changes and not options.json:
        raise ShrikeError("--changes: expected --json with it")
    options.alerts.check()
    if options.device and not options.mic:
        raise ShrikeError("--device: expected --mic with it")
    if options.together and not options.file:
        raise ShrikeError("--together: expected --file with it; several microphones: --mic --device NAME NAME")
    if options.record and len(options.device) > 1:
        raise ShrikeError("--record: expected one --device")
    if options.channel and options.demo:
        raise ShrikeError("--channel: expected --file, --mic or --stdin with it")
    if options.channel == "each" and not options.file:
        raise ShrikeError("--channel each: expected --file with it")
    if options.realtime and not (options.file or options.demo):
        raise ShrikeError("--realtime: expected --file or --demo with it; --mic and --stdin have their own pace")


def _overwritten_source(options: Options) -> str | None:
    """Name the source that --record would replace."""
    assert options.record is not None
    sources = {str(path): path for path in options.file} | ({"stdin": 0} if options.stdin else {})
    for name, source in sources.items():
        with suppress(OSError):
            if os.path.samestat(os.stat(source), options.record.stat()):
                return name
    return None


def main() -> int:
    options = parse(Options, "runtime.stream", __doc__)
    if options.list_devices:
        from runtime.sources.microphone import list_devices

        print(list_devices())
        return 0
    check(options)
    from runtime.engines.model_loader import find_model, load_model
    from runtime.session import Session, VerdictOptions
    from runtime.sinks.alerts import Alerts
    from runtime.summary import worst
    from runtime.support.shutdown import Stop
    from runtime.verdict import UNFITTED

    verdicts = VerdictOptions(options.step, options.prior, options.smoothing, options.sure)
    with ExitStack() as stack:
        stop = stack.enter_context(Stop())
        if options.check:
            options = replace(options, alerts=AlertOptions())
        alerts = stack.enter_context(closing(Alerts(options.alerts, say)))
        model = load_model(find_model(options.model), options.engine, options.threads, options.provider)
        stack.callback(model.engine.close)
        reason = f": {model.reason}" if model.reason else ""
        say(f"{model.name} ({model.card.precision}) with {model.backend}{reason}")
        if model.card.score.fitted_on is None:
            say(UNFITTED)
        if options.check:
            return 0
        if options.together or len(options.device) > 1:
            return run_together(options, model, verdicts, alerts, stack, stop)
        sinks = [stack.enter_context(closing(sink)) for sink in make_sinks(options, model.card.frontend)]
        sinks += alerts.sinks()
        session = Session(model, sinks, verdicts)
        failed = 0
        for name in options.file or options.device or (None,):
            try:
                sources = open_source(options, name, model.card.frontend.rate, stop)
            except ShrikeError as error:
                if len(options.file) < 2:
                    raise
                failed += 1
                say(f"error: {error}")
                continue
            summaries = []
            with ExitStack() as opened:
                for source in [opened.enter_context(closing(source)) for source in sources]:
                    summaries.append(session.run(source, stop))
                    if stop.requested:
                        break
            if stop.requested:
                break
            if len(summaries) > 1:
                for sink in sinks:
                    sink.file(worst(summaries), len(summaries))
        alerts.close()
        failed += alerts.failed + sum(sink.failed for sink in sinks)
    return 2 if failed else 0


def run_together(
    options: Options,
    model: "LoadedModel",
    verdicts: "VerdictOptions",
    alerts: "Alerts",
    stack: ExitStack,
    stop: "Stop",
) -> int:
    """Score all sources at once; one that cannot be opened, or fails, does not stop the others."""
    from runtime.multi_source import MultiSource, number_duplicates
    from runtime.multi_stream import StreamBatcher
    from runtime.session import Session
    from runtime.sinks.board import Board

    batcher, board = StreamBatcher(model.engine, model.card.frontend, verdicts.step), Board()
    sources, made, failed = [], list["Sink"](), 0
    for name in options.file or options.device:
        try:
            opened = open_source(options, name, model.card.frontend.rate, stop)
            sources += [stack.enter_context(closing(source)) for source in opened]
        except ShrikeError as error:
            failed += 1
            say(f"error: {error}")
    number_duplicates(sources)
    together = MultiSource(batcher, stop, say)
    for source in sources:
        sinks = [*(stack.enter_context(closing(sink)) for sink in make_sinks(options, model.card.frontend, board))]
        made += sinks
        sinks += alerts.sinks()
        together.add(source, Session(model, sinks, verdicts, batcher))
    failed += together.run() + sum(sink.failed for sink in made)
    alerts.close()
    return 2 if failed or alerts.failed else 0


def open_source(options: Options, name: Path | str | None, rate: int, stop: "Stop") -> list["Source"]:
    """Open a source: a file once for each channel that is judged. `name`: of a file or microphone."""
    channel = options.channel or MIX
    if options.stdin:
        from runtime.sources.pcm import PcmSource

        return [PcmSource(options.rate, options.dtype, options.channels, rate, stop, channel=channel)]
    if options.mic:
        from runtime.sources.microphone import Microphone

        return [Microphone(None if name is None else str(name), rate, stop, channel=channel)]
    if options.demo:
        from runtime.sources.demo import DemoSource

        return [DemoSource(rate, stop, options.realtime)]
    from runtime.sources.file import open_channels

    assert name is not None
    sources = open_channels(name, rate, stop, options.realtime, options.channel)
    if len(sources) > 1 and (options.record or options.plot):
        for source in sources:
            source.close()
        option = "--record" if options.record else "--plot"
        raise ShrikeError(f"{option}: {sources[0].name} has several channels: expected --channel left, right or mix")
    return [*sources]


def make_sinks(options: Options, frontend: "FrontEnd", board: "Board | None" = None) -> list["Sink"]:
    """Open the sinks of a source: results on stdout, log lines on stderr. `board`: view of several at once."""
    from runtime.sinks.lines import Lines

    live, named = options.mic or options.stdin or options.realtime, board is not None
    sinks: list[Sink] = []
    if options.json:
        sinks += [json_sink(options, named), Lines(sys.stderr, sys.stderr, verdicts=False, named=named)]
    elif live and not options.plain and sys.stdout.isatty():
        from runtime.sinks.meter import Meter

        sinks.append(board.line() if board else Meter())
    else:
        sinks.append(Lines(sys.stdout, sys.stderr, verdicts=live or options.demo, named=named))
    if options.record:
        from runtime.sinks.recorder import Recorder

        sinks.append(Recorder(options.record, say))
    if options.plot:
        from runtime.sinks.timeline import Timeline

        sinks.append(Timeline(options.plot, frontend))
    return sinks


def json_sink(options: Options, named: bool) -> "Sink":
    """Open the sink of --json: every verdict, or changes and heartbeats."""
    if options.alerts.changes:
        from runtime.sinks.changes import JsonChanges

        return JsonChanges(sys.stdout, named, options.alerts.debounce, options.alerts.heartbeat)
    from runtime.sinks.jsonl import JsonLines

    return JsonLines(sys.stdout, named)


if __name__ == "__main__":
    run(main)
