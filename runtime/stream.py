"""Score speech from a microphone, files or a pipe: real or fake, ten verdicts a second.

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

A verdict needs 5 s of voice; from 1 s on the state is warming-up. Ctrl-C ends with a summary.
Exit codes: 0 the sound has ended or was stopped, 2 an error that you can fix (one line names it), 1 a bug.
"""

import os
import sys
from collections.abc import Callable, Iterator
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
from runtime.support.errors import ShrikeError

if TYPE_CHECKING:
    from runtime.audio.features import FrontEnd
    from runtime.engines.model_loader import LoadedModel
    from runtime.session import VerdictOptions
    from runtime.sinks import Sink
    from runtime.sinks.alerts import Alerts
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
    """Frames of 8.125 ms between two verdicts; default: 12 for a windowed model, 16 for a streaming model."""
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
    chosen = [name for name, given in _sources(options).items() if given]
    if len(chosen) != 1:
        given = " and ".join(chosen) or "no source"
        raise ShrikeError(f"{given}: expected one of --mic, --file FILE, --stdin and --demo (--help shows examples)")
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
    try:
        target = options.record.stat()
    except OSError:
        return None
    for path in options.file:
        with suppress(OSError):
            if os.path.samestat(path.stat(), target):
                return str(path)
    if options.stdin:
        with suppress(OSError):
            if os.path.samestat(os.fstat(0), target):
                return "stdin"
    return None


def _sources(options: Options) -> dict[str, bool]:
    return {"--mic": options.mic, "--file": bool(options.file), "--stdin": options.stdin, "--demo": options.demo}


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

    verdicts = VerdictOptions(options.step, options.prior, options.smoothing, options.sure)
    with ExitStack() as stack:
        stop = stack.enter_context(Stop())
        if options.check:
            options = replace(options, alerts=AlertOptions())
        alerts = stack.enter_context(closing(Alerts(options.alerts, say)))
        model = load_model(find_model(options.model), options.engine, options.threads, options.provider)
        stack.callback(model.engine.close)
        reason = f": {model.reason}" if model.reason else ""
        say(f"{model.name(options.model)} ({model.card.precision}) with {model.backend}{reason}")
        if model.card.score.fitted_on is None:
            say("this model's scores are not fitted to probabilities: read P(spoof) as a rank, not as a probability")
        if options.check:
            return 0
        if options.together or len(options.device) > 1:
            return run_together(options, model, verdicts, alerts, stack, stop)
        sinks = [stack.enter_context(closing(sink)) for sink in make_sinks(options, model.card.frontend)]
        sinks += alerts.sinks()
        session = Session(model, sinks, verdicts)
        failed = 0
        for open_sources in openers(options, model.card.frontend.rate, stop):
            try:
                sources = open_sources()
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

    batcher = StreamBatcher(model.engine, model.card.frontend, verdicts.step)
    make_sinks = together_sinks(options)
    sources, failed = [], 0
    for open_sources in openers(options, model.card.frontend.rate, stop):
        try:
            sources += [stack.enter_context(closing(source)) for source in open_sources()]
        except ShrikeError as error:
            failed += 1
            say(f"error: {error}")
    number_duplicates(sources)
    together = MultiSource(batcher, stop, say)
    for source in sources:
        sinks = [*(stack.enter_context(closing(sink)) for sink in make_sinks()), *alerts.sinks()]
        together.add(source, Session(model, sinks, verdicts, batcher))
    failed += together.run()
    alerts.close()
    return 2 if failed or alerts.failed else 0


def openers(options: Options, rate: int, stop: "Stop") -> Iterator[Callable[[], list["Source"]]]:
    """Yield a function that opens each source, in order; a file is a source for each channel that is judged."""
    if options.stdin:
        from runtime.sources.pcm import PcmSource

        raw = options.rate, options.dtype, options.channels
        yield lambda: [PcmSource(*raw, rate, stop, channel=options.channel or MIX)]
    elif options.mic:
        from runtime.sources.microphone import Microphone

        for device in options.device or (None,):
            yield lambda device=device: [Microphone(device, rate, stop, channel=options.channel or MIX)]  # type: ignore[misc]
    elif options.demo:
        from runtime.sources.demo import DemoSource

        yield lambda: [DemoSource(rate, stop, options.realtime)]
    else:
        for path in options.file:
            yield lambda path=path: open_file(options, path, rate, stop)  # type: ignore[misc]


def open_file(options: Options, path: Path, rate: int, stop: "Stop") -> list["Source"]:
    """Open a file once for each channel that is judged."""
    from runtime.sources.file import open_channels

    sources = open_channels(path, rate, stop, options.realtime, options.channel)
    if len(sources) > 1 and (options.record or options.plot):
        for source in sources:
            source.close()
        option = "--record" if options.record else "--plot"
        raise ShrikeError(f"{option}: {sources[0].name} has several channels: expected --channel left, right or mix")
    return [*sources]


def make_sinks(options: Options, frontend: "FrontEnd") -> list["Sink"]:
    """Open the sinks of one source at a time: results on stdout, log lines on stderr."""
    from runtime.sinks.lines import Lines

    live = options.mic or options.stdin or options.realtime
    sinks: list[Sink] = []
    if options.json:
        sinks += [json_sink(options), Lines(sys.stderr, sys.stderr, verdicts=False)]
    elif live and not options.plain and sys.stdout.isatty():
        from runtime.sinks.meter import Meter

        sinks.append(Meter())
    else:
        sinks.append(Lines(sys.stdout, sys.stderr, verdicts=live or options.demo))
    if options.record:
        from runtime.sinks.recorder import Recorder

        sinks.append(Recorder(options.record, say))
    if options.plot:
        from runtime.sinks.timeline import Timeline

        sinks.append(Timeline(options.plot, frontend))
    return sinks


def together_sinks(options: Options) -> Callable[[], list["Sink"]]:
    """Return a function that opens the sinks of each of several streams."""
    from runtime.sinks.lines import Lines

    if options.json:
        return lambda: [json_sink(options, named=True), Lines(sys.stderr, sys.stderr, verdicts=False, named=True)]
    live = options.mic or options.realtime
    if live and not options.plain and sys.stdout.isatty():
        from runtime.sinks.board import Board

        board = Board()
        return lambda: [board.line()]
    return lambda: [Lines(sys.stdout, sys.stderr, verdicts=live, named=True)]


def json_sink(options: Options, named: bool = False) -> "Sink":
    """Open the sink of --json: every verdict, or changes and heartbeats."""
    if options.alerts.changes:
        from runtime.sinks.changes import JsonChanges

        return JsonChanges(sys.stdout, named, options.alerts.debounce, options.alerts.heartbeat)
    from runtime.sinks.jsonl import JsonLines

    return JsonLines(sys.stdout, named)


def say(sentence: str) -> None:
    """Write a line to stderr."""
    print(sentence, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run(main)
