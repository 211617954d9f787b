"""Parts of a dataset that are exported by themselves: the record of each, and a ledger of those finished.

A record is a JSON object. The fields that all forms have are made and checked here; an exporter adds those
from which it puts the parts together. Records come back from other machines, so they may be anything.
"""

from __future__ import annotations

import json
import logging
import os
import reprlib
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.errors import ExportError, FormatError
from ipfs_dataset_core.toolkit.json_values import parse_json

if TYPE_CHECKING:
    from ipfs_dataset_core.ipld import CID

log = logging.getLogger(__name__)

IDENTIFIER = "ipfs-dataset-part"
MAX_PARTS = 1 << 32
# How many numbers of missing parts a message names.
_NAMED = 10

# What `IPFSDatasetExporter.assemble` takes.
Parts = Iterable["Mapping[str, Any] | str | os.PathLike[str]"] | str | os.PathLike[str]


def make_record(
    part: int, root: CID, content: Mapping[str, Any], settings: Mapping[str, str | None]
) -> dict[str, Any]:
    """Returns the record of a part.

    Args:
        part: Its number.
        root: The directory with its files.
        content: What its exporter recorded, which `Exporter.assemble` needs.
        settings: What has to be the same for all parts of a dataset: the form and what CIDs depend on.
    """
    return {"identifier": IDENTIFIER, "part": part, "root": str(root), **settings, **content}


def read_parts(parts: Parts, settings: Mapping[str, str | None]) -> list[Mapping[str, Any]]:
    """Returns the records of all parts of a dataset, in the order of their numbers.

    Args:
        parts: Records, ledgers, or both; or one ledger.
        settings: What they have to agree with.

    Raises:
        ExportError: A part is missing, is there twice, or was exported with other settings.
        FormatError: Something is no record of a part.
        OSError: A ledger cannot be read.
    """
    if isinstance(parts, (str, os.PathLike)):
        parts = [parts]
    elif isinstance(parts, Mapping):
        raise ExportError("The parts of a dataset are a list of what export_part returned, not one")
    found: dict[int, Mapping[str, Any]] = {}
    for given in parts:
        records = Ledger(given).records() if isinstance(given, (str, os.PathLike)) else [given]
        for record in records:
            number = check_record(record, settings, "The record of a part")
            if number in found:
                raise ExportError(
                    f"Part {number} is there twice, with the roots {found[number]['root']} and "
                    f"{record['root']}: give each part once"
                )
            found[number] = record
    last = max(found, default=-1)
    missing = last + 1 - len(found)
    if missing:
        # The numbers may be anything up to MAX_PARTS, so the missing ones are not listed as a whole.
        absent = (str(number) for number in range(last) if number not in found)
        some = ", ".join(islice(absent, _NAMED)) + (", …" if missing > _NAMED else "")
        raise ExportError(
            f"{missing} of the parts 0 to {last} are missing: {some}. Parts are numbered from 0; "
            "export those that are missing, without samples where there are none"
        )
    return [found[number] for number in sorted(found)]


def check_record(record: Any, settings: Mapping[str, str | None], what: str) -> int:
    """Checks what is common to all forms in the record of a part, and returns the part's number.

    Args:
        record: The value to check.
        settings: The values that the record has to have.
        what: The name of the record in messages.

    Raises:
        ExportError: The part was exported with other settings.
        FormatError: It is no record of a part.
    """
    if not isinstance(record, Mapping) or record.get("identifier") != IDENTIFIER:
        raise FormatError(f"{what} is {shown(record)}, which is not what export_part returned")
    number = record.get("part")
    if type(number) is not int or not 0 <= number < MAX_PARTS:
        raise FormatError(f"{what} has the number {shown(number)}: parts are numbered from 0")
    if type(record.get("root")) is not str:
        raise FormatError(f"{what} {number} is damaged: its root is {shown(record.get('root'))}")
    for name, value in settings.items():
        if record.get(name) != value:
            raise ExportError(
                f"Part {number} was exported with {name}={shown(record.get(name))}, and this exporter has "
                f"{shown(value)}: export all parts and put them together with the same options"
            )
    return number


def shown(value: Any) -> str:
    """Returns the beginning of a value for a message, however large and nested it is."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlevel = 2


class Ledger:
    """A file of JSON lines with the records of parts that are finished. Several processes may add to it.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def records(self) -> list[Any]:
        """Returns the records, each once.

        A line that is cut off, because its writer was killed, is left out: its part counts as missing.

        Raises:
            FormatError: A line is JSON, but no record of a part.
            OSError: The file cannot be read.
        """
        records: dict[str, dict[str, Any]] = {}
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                what = f"Line {number} of {str(self.path)!r}"
                try:
                    record = parse_json(line.decode())
                except (ValueError, RecursionError) as error:
                    if line.strip():
                        log.warning("%s is left out, for it is cut off or damaged: %s", what, error)
                    continue
                check_record(record, {}, what)
                records[json.dumps(record, sort_keys=True)] = record
        return list(records.values())

    def find(self, part: int, settings: Mapping[str, str | None]) -> dict[str, Any] | None:
        """Returns the record of a part, None where it is not finished.

        Raises:
            ExportError: It was exported with other settings.
            FormatError: The ledger is damaged.
            OSError: It cannot be read.
        """
        if not self.path.exists():
            return None
        for record in reversed(self.records()):
            if record["part"] == part:
                check_record(record, settings, "The record of a part")
                return dict(record)
        return None

    def add(self, record: Mapping[str, Any]) -> None:
        """Adds a record and syncs the file, so that the record survives a power cut.

        Raises:
            OSError: The file cannot be written.
        """
        line = json.dumps(record, separators=(",", ":"), allow_nan=False)
        # One write to the end of the file: lines of several processes do not mix. The first newline ends a
        # line that a killed process left unfinished; empty lines are skipped.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            data = f"\n{line}\n".encode() if os.fstat(descriptor).st_size else f"{line}\n".encode()
            if os.write(descriptor, data) < len(data):
                raise OSError(f"{self.path}: the record of part {record['part']} is cut off")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
