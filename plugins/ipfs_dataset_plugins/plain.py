"""Whole files: one sample each, as bytes or as the open file itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core import MemberIndex, Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import ObjectFile, Sample, Span


class OneSample(MemberIndex):
    """The index of an object that is one sample."""

    def __init__(self, name: str, span: Span) -> None:
        self._name = name
        self._span = span

    def __len__(self) -> int:
        return 1

    def name(self, position: int) -> str:
        return (self._name,)[position]

    def span(self, position: int) -> Span:
        return (self._span,)[position]


class PlainReader(Reader):
    """Reads a file as one sample ``(name, bytes)``."""

    cheap_index = True

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        yield source.name, source.read_at(0, source.size)

    def index(self, source: ObjectFile) -> OneSample:
        return OneSample(source.name, (0, source.size))

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        return index.name(position), source.read_at(0, source.size)


class PlainStreamReader(Reader):
    """Reads a file as one sample ``(name, file object)``; the data is fetched while the user reads it."""

    cheap_index = True

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        yield source.name, _from_its_start(source)

    def index(self, source: ObjectFile) -> OneSample:
        return OneSample(source.name, (0, 0))

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        return index.name(position), _from_its_start(source)


def _from_its_start(source: ObjectFile) -> ObjectFile:
    """Returns the file at its start, with read-ahead, which ends if the user seeks first."""
    source.seek(0)
    source.read_ahead(0, source.size)
    return source
