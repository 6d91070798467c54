"""Some of a corpus's trials, by what its metadata.csv says of them.

partition = select(partition, "open=1,mp3=0")       # by the columns of metadata.csv
path, columns, rows = read_metadata(partition)      # rows by utterance
"""

import csv
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.support.errors import ShrikeError
from train.data.corpus_index import first_few, stem

if TYPE_CHECKING:
    from train.data.corpus import Partition


def select(partition: "Partition", expression: str) -> "Partition":
    """Select trials by their row in metadata.csv: "open=1", or "open=1,mp3=0" for both; "" selects all."""
    wanted = read_selection(expression)
    if not wanted:
        return partition
    path, columns, rows = read_metadata(partition)
    if unknown := [column for column in wanted if column not in columns]:
        raise ShrikeError(f"{path} has no column {', '.join(unknown)}; its columns: {', '.join(columns)}")

    def holds(utterance: str) -> bool:
        row = rows.get(utterance, {})
        return all(row.get(column) == value for column, value in wanted.items())

    trials = tuple(trial for trial in partition.trials if holds(trial.utterance))
    if not trials:
        values = (f"{column}: {first_few(sorted({row[column] for row in rows.values()}))}" for column in wanted)
        raise ShrikeError(f"no trial of {partition.name} has {expression}; in {path} there are {'; '.join(values)}")
    missing = tuple(utterance for utterance in partition.missing if holds(utterance))
    selection = ",".join(filter(None, (partition.selection, expression.replace(" ", ""))))
    return replace(partition, trials=trials, missing=missing, selection=selection)


def read_selection(expression: str) -> dict[str, str]:
    """Read "open=1,mp3=0": column -> value."""
    wanted: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in expression.split(","))):
        column, equals, value = (text.strip() for text in part.partition("="))
        if not (column and equals and value):
            raise ShrikeError(f"{part!r}: expected column=value, several separated by commas")
        if wanted.setdefault(column, value) != value:
            raise ShrikeError(f"{expression!r}: {column} has two values; expected one")
    return wanted


def find_metadata(partition: "Partition") -> Path | None:
    """Find metadata.csv at the corpus's root, or between there and the protocol; of several corpora the first one."""
    if partition.parts:
        return next((path for part in partition.parts if (path := find_metadata(part))), None)
    places = [partition.root, *reversed([p for p in partition.protocol.parents if partition.root in p.parents])]
    return next((place / "metadata.csv" for place in places if (place / "metadata.csv").is_file()), None)


def read_metadata(partition: "Partition") -> tuple[Path, list[str], dict[str, dict[str, str]]]:
    """Read metadata.csv: its path, columns, and rows by utterance; of several corpora those of all."""
    if partition.parts:
        tables = [read_metadata(part) for part in partition.parts if find_metadata(part)]
        columns = list(dict.fromkeys(column for table in tables for column in table[1]))
        return tables[0][0], columns, {name: row for table in tables for name, row in table[2].items()}
    path = find_metadata(partition)
    if path is None:
        raise ShrikeError(f"{partition.root} has no metadata.csv, which is needed to select trials")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            rows, columns = list(reader), list(reader.fieldnames or ())
    except (OSError, ValueError, csv.Error) as error:
        raise ShrikeError(f"{path} cannot be read: {error}") from error
    name = next((column for column in ("utt", "utterance", "file") if column in columns), None)
    if name is None:
        known = ", ".join(columns) or "none"
        raise ShrikeError(f"{path} needs a column utt, utterance or file to name the utterances; its columns: {known}")
    return path, columns, {stem(os.path.basename(row[name])): row for row in rows}
