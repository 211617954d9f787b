"""Records of dataset parts that were exported separately, and a ledger of finished parts.

A record is a JSON object. The fields common to all forms are written and checked here; an exporter adds the
fields from which it assembles the dataset. Records come from other machines, so any value is possible.
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
# Maximum number of missing parts named in a message.
_NAMED = 10

# The argument of `IPFSDatasetExporter.assemble`.
Parts = Iterable["Mapping[str, Any] | str | os.PathLike[str]"] | str | os.PathLike[str]


def make_record(
    part: int, root: CID, content: Mapping[str, Any], settings: Mapping[str, str | None]
) -> dict[str, Any]:
    """Returns the record of a part.

    Args:
        part: Number of the part.
        root: CID of the directory that contains its files.
        content: Fields recorded by the exporter, for `Exporter.assemble`.
        settings: Settings that must be equal in all parts of a dataset: the form, and all that affects CIDs.
    """
    return {"identifier": IDENTIFIER, "part": part, "root": str(root), **settings, **content}


def read_parts(parts: Parts, settings: Mapping[str, str | None]) -> list[Mapping[str, Any]]:
    """Returns the records of all parts of a dataset, sorted by their numbers.

    Args:
        parts: Records, ledgers, or both; or one ledger.
        settings: The settings that they must have.

    Raises:
        ExportError: A part is missing, occurs twice, or was exported with other settings.
        FormatError: An item is not the record of a part.
        OSError: A ledger cannot be read.
    """
    if isinstance(parts, (str, os.PathLike)):
        parts = [parts]
    elif isinstance(parts, Mapping):
        raise ExportError(
            "Give a list of the records that export_part returned, not a single record"
        )
    found: dict[int, Mapping[str, Any]] = {}
    for given in parts:
        records = Ledger(given).records() if isinstance(given, (str, os.PathLike)) else [given]
        for record in records:
            number = check_record(record, settings, "The record of a part")
            if number in found:
                raise ExportError(
                    f"Part {number} occurs twice, with the roots {found[number]['root']} and "
                    f"{record['root']}: give each part once"
                )
            found[number] = record
    last = max(found, default=-1)
    missing = last + 1 - len(found)
    if missing:
        # Numbers may be anything up to MAX_PARTS, so the missing ones are not enumerated in full.
        absent = (str(number) for number in range(last) if number not in found)
        some = ", ".join(islice(absent, _NAMED)) + (", …" if missing > _NAMED else "")
        raise ExportError(
            f"{missing} of the parts 0 to {last} are missing: {some}. Parts are numbered from 0; "
            "export the missing ones, with an empty list if they have no samples"
        )
    return [found[number] for number in sorted(found)]


def check_record(record: Any, settings: Mapping[str, str | None], what: str) -> int:
    """Checks the fields that the record of a part has in every form; returns the part's number.

    Args:
        record: The value to check.
        settings: The settings that the record must have.
        what: The name of the record in messages.

    Raises:
        ExportError: The part was exported with other settings.
        FormatError: The value is not the record of a part.
    """
    if not isinstance(record, Mapping) or record.get("identifier") != IDENTIFIER:
        raise FormatError(f"{what} is {shown(record)}, not a record returned by export_part")
    number = record.get("part")
    if type(number) is not int or not 0 <= number < MAX_PARTS:
        raise FormatError(f"{what} has the number {shown(number)}: parts are numbered from 0")
    if type(record.get("root")) is not str:
        raise FormatError(f"{what} {number} is damaged: its root is {shown(record.get('root'))}")
    for name, value in settings.items():
        if record.get(name) != value:
            raise ExportError(
                f"Part {number} was exported with {name}={shown(record.get(name))}, and this exporter has "
                f"{shown(value)}: export and assemble all parts with the same options"
            )
    return number


def shown(value: Any) -> str:
    """Returns the beginning of a value for a message, however large or nested the value is."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlevel = 2


class Ledger:
    """A file of JSON lines with the records of finished parts. Several processes may append to it.

    Args:
        path: The file; it need not exist yet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def records(self) -> list[Any]:
        """Returns the records, each once.

        A line that is cut off, because its writer was killed, is skipped, so its part counts as missing.

        Raises:
            FormatError: A line is JSON, but not the record of a part.
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
                        log.warning(
                            "%s is skipped, because it is cut off or damaged: %s", what, error
                        )
                    continue
                check_record(record, {}, what)
                records[json.dumps(record, sort_keys=True)] = record
        return list(records.values())

    def find(self, part: int, settings: Mapping[str, str | None]) -> dict[str, Any] | None:
        """Returns the record of a part; None if it is not finished.

        Raises:
            ExportError: The part was exported with other settings.
            FormatError: The ledger is damaged.
            OSError: The ledger cannot be read.
        """
        if not self.path.exists():
            return None
        for record in reversed(self.records()):
            if record["part"] == part:
                check_record(record, settings, "The record of a part")
                return dict(record)
        return None

    def add(self, record: Mapping[str, Any]) -> None:
        """Appends a record and syncs the file, so that the record survives a power failure.

        Raises:
            OSError: The file cannot be written.
        """
        line = json.dumps(record, separators=(",", ":"), allow_nan=False)
        # A single write to the end of the file, so that lines of several processes do not mix. The leading
        # newline ends a line that a killed process left unfinished; empty lines are skipped.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            data = f"\n{line}\n".encode() if os.fstat(descriptor).st_size else f"{line}\n".encode()
            if os.write(descriptor, data) < len(data):
                raise OSError(f"{self.path}: the record of part {record['part']} is cut off")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
