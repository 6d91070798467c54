"""Index of the files below a corpus's root, from one walk: protocols by name, audio by utterance.

tree = CorpusIndex("/data/LA")
tree.protocols["train"]             # protocols with an official name
tree.sound("LA_T_1138215")          # the file named like the utterance, or None
"""

import os
from collections.abc import Iterable
from pathlib import Path

from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby

EXTENSIONS = ("flac", "wav", "ogg", "mp3")  # best first: the one used if an utterance has several
NAMES_SHOWN = 5  # in a message

# Ends of the paths of each partition's protocols, with or without .gz.
PROTOCOLS = {
    "train": ("ASVspoof2019.LA.cm.train.trn.txt", "ASVspoof2019.PA.cm.train.trn.txt", "ASVspoof5.train.tsv",
              "ASVspoof5.train.metadata.txt", "protocols/train.txt"),
    "dev": ("ASVspoof2019.LA.cm.dev.trl.txt", "ASVspoof2019.PA.cm.dev.trl.txt", "ASVspoof5.dev.track_1.tsv",
            "ASVspoof5.dev.metadata.txt", "protocols/dev.txt"),
    "eval": ("ASVspoof2019.LA.cm.eval.trl.txt", "ASVspoof2019.PA.cm.eval.trl.txt", "CM/trial_metadata.txt",
             "ASVspoof2021.LA.cm.eval.trl.txt", "ASVspoof2021.DF.cm.eval.trl.txt", "ASVspoof2021.PA.cm.eval.trl.txt",
             "ASVspoof5.eval.track_1.tsv", "protocols/eval.txt"),
}  # fmt: skip


class CorpusIndex:
    """All protocols and audio files below a directory."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        if not os.path.isdir(root):
            raise ShrikeError(f"{root}: expected a directory with protocols and audio below it{nearby(root)}")
        self.root = os.path.abspath(root)
        self.audio: dict[str, str] = {}  # utterance → path; strings, because 681,000 Paths are slow to make
        self.twins: dict[str, set[str]] = {}  # utterance → all its paths, if several have the same extension
        self.protocols: dict[str, list[Path]] = {partition: [] for partition in PROTOCOLS}
        self.closed: list[str] = []  # unreadable directories
        # A protocol's name -> its partition, and the end of its path.
        self.wanted = {
            tail.rpartition("/")[2]: (name, f"/{tail}") for name, tails in PROTOCOLS.items() for tail in tails
        }
        # Linked directories come last and every directory is entered once: loops end, and paths without links win.
        waiting: list[str] = [self.root]
        linked: list[str] = []
        entered: set[str] = set()
        while waiting or linked:
            directory = waiting.pop() if waiting else linked.pop()
            real = os.path.realpath(directory)
            if real in entered:
                continue
            entered.add(real)
            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        if not _leads_to_directory(entry):
                            self._see(entry)
                        elif not entry.name.startswith("."):
                            (linked if entry.is_symlink() else waiting).append(entry.path)
            except OSError:
                self.closed.append(directory)

    def _see(self, entry: "os.DirEntry[str]") -> None:
        stem, _, extension = entry.name.rpartition(".")
        if extension.lower() in EXTENSIONS:
            if not entry.is_symlink() or os.path.exists(entry.path):
                self._add(stem, entry.path)
            return
        partition, ending = self.wanted.get(entry.name.removesuffix(".gz"), ("", ""))
        if ending and Path(entry.path).as_posix().removesuffix(".gz").endswith(ending):
            self.protocols[partition].append(Path(entry.path))

    def _add(self, utterance: str, path: str) -> None:
        known = self.audio.setdefault(utterance, path)
        if known is not path:
            better = _rank(path) - _rank(known)
            if better < 0:
                self.audio[utterance] = path
                self.twins.pop(utterance, None)
            elif better == 0:
                self.twins.setdefault(utterance, {known}).add(path)

    def sound(self, utterance: str) -> str | None:
        """Return the path of an utterance, or None; some corpora write the extension into their protocols."""
        utterance = utterance if utterance in self.audio else stem(utterance)
        if utterance in self.twins:
            places = sorted({os.path.realpath(path) for path in self.twins[utterance]})
            if len(places) > 1:
                raise ShrikeError(
                    f"{utterance} has several files: {first_few(places)}; point --corpus at one of the folders"
                )
        return self.audio.get(utterance)


def _leads_to_directory(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _rank(path: str) -> int:
    return EXTENSIONS.index(path.rpartition(".")[2].lower())


def stem(name: str) -> str:
    """Remove the extension of an audio file."""
    before, _, extension = name.rpartition(".")
    return before if extension.lower() in EXTENSIONS else name


def first_few(names: Iterable[str]) -> str:
    """Join the first few of many names."""
    names = list(names)
    return ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")
