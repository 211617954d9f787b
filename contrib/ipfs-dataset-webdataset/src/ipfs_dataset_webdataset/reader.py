"""The reader of WebDataset shards: consecutive members of a TAR archive with the same key are one sample."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

from ipfs_dataset_core import FormatError, IPFSDatasetError, LimitError, Reader, open_reader
from ipfs_dataset_webdataset.decoders import DECODERS
from ipfs_dataset_webdataset.index import SampleChecker, SampleIndex, split_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ipfs_dataset_core import MemberIndex, ObjectFile, Sample

_KEY = "__key__"


class WebDatasetReader(Reader):
    """Reads a TAR archive with the layout of WebDataset, as ``(key, {"__key__": key, extension: value})``.

    The last part of a member's extension decides how it is decoded: as an image, a number, text, JSON or
    arrays (see `decoders`). All other members are `bytes`. Pickles are never loaded.

    Args:
        decode: With False, every member is `bytes`. A mapping from extensions to functions of `bytes` adds
            decoders or replaces them; ``{"jpg": bytes}`` leaves JPEG files undecoded. A whole extension such
            as ``"seg.png"`` has precedence over its last part.
        scattered: Whether members with the same key that are not consecutive become separate samples. By
            default they raise `FormatError`, unless they have a field in common, because an archive that is
            not sorted would give parts of samples.
    """

    scans_to_slice = True

    def __init__(
        self,
        *,
        decode: bool | Mapping[str, Callable[[bytes], Any]] = True,
        scattered: bool = False,
    ) -> None:
        given = {} if isinstance(decode, bool) else dict(decode)
        self._own_decoders = {
            extension.lower().lstrip("."): decoder for extension, decoder in given.items()
        }
        self._decodes = decode is not False
        self._scattered = scattered
        self._tar = open_reader("tar")

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        checker = self._checker(source)
        for key, members in groupby(self._members(source, checker), key=itemgetter(0)):
            sample = self._sample(source, key, ((field, data) for _, field, data in members))
            checker.add(key, (field for field in sample[1] if field != _KEY))
            yield sample
        checker.check_end(source)

    def _members(
        self, source: ObjectFile, checker: SampleChecker
    ) -> Iterator[tuple[str, str, bytes]]:
        """Yields ``(key, field, data)`` for each member that belongs to a sample."""
        for name, data in self._tar.samples(source):
            checker.members += 1
            if (parts := split_name(name)) is not None:
                yield *parts, data

    def sliceable(self, source: ObjectFile) -> bool:
        return self._tar.sliceable(source)

    def samples_between(self, source: ObjectFile, start: int, stop: int) -> Iterator[Sample]:
        index = self.index(source)
        first_byte = 0
        for position in range(len(index)):
            # A sample belongs to the slice in which it begins. The positions must not decrease, although a
            # link has the span of an earlier member, and must lie in the file, although an empty last member
            # begins at its end.
            first_byte = max(first_byte, min(index.span(position)[0], source.size - 1))
            if first_byte >= stop:
                return
            if first_byte >= start:
                yield self.read(source, index, position)

    def index(self, source: ObjectFile) -> SampleIndex:
        """Returns the samples of the archive; this reads the header of each member.

        Raises:
            FormatError: The archive is damaged or compressed, or the members of a sample are not consecutive.
        """
        members = cast("MemberIndex", self._tar.index(source))
        return SampleIndex(members, self._checker(source), source)

    def _checker(self, source: ObjectFile) -> SampleChecker:
        return SampleChecker(source.name, scattered=self._scattered)

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        samples = cast("SampleIndex", index)
        fields = (
            (field, self._tar.read(source, samples.members, member)[1])
            for member, field in samples.fields(position)
        )
        return self._sample(source, samples.name(position), fields)

    def _sample(self, source: ObjectFile, key: str, fields: Iterable[tuple[str, bytes]]) -> Sample:
        sample: dict[str, Any] = {_KEY: key}
        size = 0
        for field, data in fields:
            if field in sample:
                raise FormatError(
                    f"The sample {key!r} of {source.name!r} has the field {field!r} twice: give each "
                    "sample its own key, and each of its members its own extension."
                )
            size += len(data)
            source.limits.check("read_bytes", size, f"the sample {key!r} of {source.name!r}")
            sample[field] = self._decoded(source, key, field, data)
        return key, sample

    def _decoded(self, source: ObjectFile, key: str, field: str, data: bytes) -> Any:
        last = field.rpartition(".")[2]
        own_decoder = self._own_decoders.get(field, self._own_decoders.get(last))
        if own_decoder is not None:
            return own_decoder(data)
        decoder = DECODERS.get(last) if self._decodes else None
        if decoder is None:
            return data
        what = f"The member {f'{key}.{field}'!r} of {source.name!r}"
        try:
            return decoder(data, source.limits)
        except (LimitError, MemoryError) as error:
            raise LimitError(
                f"{what} is too large to be decoded: {error}. {_undecoded_hint(last)}"
            ) from error
        except IPFSDatasetError:
            raise
        except Exception as error:
            raise FormatError(
                f"{what} cannot be decoded: {str(error) or type(error).__name__}. {_undecoded_hint(last)}"
            ) from error


def _undecoded_hint(extension: str) -> str:
    return f"WebDatasetReader(decode={{{extension!r}: bytes}}) returns its bytes."
