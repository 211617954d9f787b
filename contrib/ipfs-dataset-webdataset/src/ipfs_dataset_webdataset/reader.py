"""The reader: neighbouring members of a TAR archive that share a key are one sample."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

from ipfs_dataset_core import FormatError, IPFSDatasetError, LimitError, Reader, open_reader
from ipfs_dataset_webdataset.decoders import DECODERS
from ipfs_dataset_webdataset.index import Keys, SampleIndex, split_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ipfs_dataset_core import MemberIndex, ObjectFile, Sample

_KEY = "__key__"


class WebDatasetReader(Reader):
    """Reads a TAR archive in WebDataset's layout, as ``(key, {"__key__": key, extension: value})``.

    Members are decoded by the last part of their extension: images, numbers, texts, JSON and arrays.
    Everything else stays bytes, pickles among it, which are never loaded.

    Args:
        decode: False leaves every member bytes. A mapping of extensions to functions of the bytes adds to
            what is decoded, or replaces it; ``{"jpg": bytes}`` leaves one extension bytes. A whole
            extension such as ``"seg.png"`` goes before its last part.
        scattered: Whether members of one key that are apart, with members of other keys between, are samples
            of their own. By default that is a `FormatError`, unless they have a field in common: else an
            archive that is not sorted would give parts of samples.
    """

    scans_to_slice = True

    def __init__(
        self,
        *,
        decode: bool | Mapping[str, Callable[[bytes], Any]] = True,
        scattered: bool = False,
    ) -> None:
        given = {} if isinstance(decode, bool) else dict(decode)
        self._own = {extension.lower().lstrip("."): given[extension] for extension in given}
        self._decodes = decode is not False
        self._scattered = scattered
        self._tar = open_reader("tar")

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        keys, members = self._keys(source), 0

        def parts() -> Iterator[tuple[str, str, bytes]]:
            nonlocal members
            for name, data in self._tar.samples(source):
                members += 1
                if (found := split_name(name)) is not None:
                    yield *found, data

        for key, of_key in groupby(parts(), key=itemgetter(0)):
            sample = self._sample(source, key, ((field, data) for _, field, data in of_key))
            keys.add(key, (field for field in sample[1] if field != _KEY))
            yield sample
        keys.check_end(source, members)

    def sliceable(self, source: ObjectFile) -> bool:
        return self._tar.sliceable(source)

    def samples_between(self, source: ObjectFile, start: int, stop: int) -> Iterator[Sample]:
        index = self.index(source)
        begin = 0
        for position in range(len(index)):
            # Links lead back to earlier bytes, and an empty member may lie at the very end.
            begin = max(begin, min(index.span(position)[0], source.size - 1))
            if begin >= stop:
                return
            if begin >= start:
                yield self.read(source, index, position)

    def index(self, source: ObjectFile) -> SampleIndex:
        """Returns where each sample lies, from the archive's headers.

        Raises:
            FormatError: The archive is damaged or compressed, or the members of a sample are apart.
        """
        return SampleIndex(cast("MemberIndex", self._tar.index(source)), self._keys(source), source)

    def _keys(self, source: ObjectFile) -> Keys:
        return Keys(source.name, scattered=self._scattered)

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        found = cast("SampleIndex", index)
        parts = (
            (field, self._tar.read(source, found.members, member)[1])
            for member, field in found.fields(position)
        )
        return self._sample(source, found.name(position), parts)

    def _sample(self, source: ObjectFile, key: str, parts: Iterable[tuple[str, bytes]]) -> Sample:
        sample: dict[str, Any] = {_KEY: key}
        size = 0
        for field, data in parts:
            if field in sample:
                raise FormatError(
                    f"The sample {key!r} of {source.name!r} has the field {field!r} twice: give every "
                    "sample a key of its own, and each of its members another extension."
                )
            size += len(data)
            source.limits.check("read_bytes", size, f"the sample {key!r} of {source.name!r}")
            sample[field] = self._decoded(source, key, field, data)
        return key, sample

    def _decoded(self, source: ObjectFile, key: str, field: str, data: bytes) -> Any:
        last = field.rpartition(".")[2]
        own = self._own.get(field, self._own.get(last))
        if own is not None:
            return own(data)
        decoder = DECODERS.get(last) if self._decodes else None
        if decoder is None:
            return data
        what = f"The member {f'{key}.{field}'!r} of {source.name!r}"
        try:
            return decoder(data, source.limits)
        except (LimitError, MemoryError) as error:
            raise LimitError(
                f"{what} is too large to be decoded: {error}. {_hint(last)}"
            ) from error
        except IPFSDatasetError:
            raise
        except Exception as error:
            raise FormatError(
                f"{what} cannot be decoded: {str(error) or type(error).__name__}. {_hint(last)}"
            ) from error


def _hint(extension: str) -> str:
    return f"WebDatasetReader(decode={{{extension!r}: bytes}}) leaves it bytes."
