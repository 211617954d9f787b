"""Decodes the bytes of files, of members of archives and folders, and of plain objects into values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.errors import FormatError, IPFSDatasetError
from ipfs_dataset_core.interfaces import (
    Reader,
    ReaderPlugin,
    WholeFileIndex,
    is_parse_error,
    is_whole_file,
)
from ipfs_dataset_core.interfaces.objects import BytesFile
from ipfs_dataset_core.registry.declarations import declaration_of, is_reader_class
from ipfs_dataset_core.registry.guard import Guard
from ipfs_dataset_core.registry.guarded_readers import make_reader, unguarded
from ipfs_dataset_core.registry.provenance import Origin
from ipfs_dataset_core.runtime.error_location import with_message
from ipfs_dataset_core.runtime.process_local import ProcessLocal

if TYPE_CHECKING:
    from ipfs_dataset_core.interfaces import Sample
    from ipfs_dataset_core.options import Limits

Decoder = Callable[[bytes], Any] | type[Reader] | Reader | ReaderPlugin | str


class Decoders:
    """Decodes the bytes of files into values, by the suffixes of their names.

    Args:
        given: By suffix, such as ``".spx"``: a function of the bytes, or a format, given as its class, an
            instance, its declaration or its name.
        any_name: Whether to accept the suffix ``""``, which every name ends with.

    Raises:
        TypeError: A suffix or a decoder has another type.
    """

    def __init__(
        self, given: Mapping[str, Decoder] | None = None, *, any_name: bool = False
    ) -> None:
        self._decode: dict[str, _Decode] = {}
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(
                "decoders maps suffixes to functions of bytes, such as {'.spx': decode}, not "
                f"{given!r:.100}"
            )
        for suffix, decoder in (given or {}).items():
            if not isinstance(suffix, str) or not (any_name or suffix.startswith(".")):
                raise TypeError(
                    f"decoders maps suffixes, such as '.spx', to functions of bytes; {suffix!r} is "
                    "not a suffix"
                )
            self._decode[suffix.lower()] = _decode_of(suffix, decoder)
        self._suffixes = tuple(self._decode)

    def claim(self, name: str) -> bool:
        """Returns whether files with this name are decoded."""
        return bool(self._suffixes) and name.lower().endswith(self._suffixes)

    def decoded(self, sample: Sample, limits: Limits) -> Sample:
        """Returns a sample, with its bytes decoded if its name has one of the suffixes.

        Args:
            sample: A sample of an archive, folder or plain file.
            limits: The limits for formats.

        Raises:
            FormatError: The bytes cannot be decoded.
            PluginError: The decoder failed with an error that parsers do not raise for invalid bytes.
        """
        name, value = sample
        lowered = name.lower()
        if not lowered.endswith(self._suffixes) or not isinstance(value, bytes):
            return sample
        suffix = max(filter(lowered.endswith, self._suffixes), key=len)
        return name, self._decode[suffix](value, name, limits)


class _Decode:
    """Decodes the bytes of a file into a value."""

    def __call__(self, data: bytes, name: str, limits: Limits) -> Any:
        raise NotImplementedError


class _ByFunction(_Decode):
    def __init__(self, function: Callable[[bytes], Any]) -> None:
        self._function = function
        self._origin = Origin.given(function)

    def __call__(self, data: bytes, name: str, limits: Limits) -> Any:
        with Guard(self._origin, "the decoding of {0!r}, {1} bytes", name, len(data)):
            try:
                return self._function(data)
            except Exception as error:
                if not is_parse_error(error):
                    raise
                text = f"{type(error).__name__}: {error}"
                raise FormatError(
                    f"{name!r}, {len(data)} bytes, cannot be decoded: {text}"
                ) from error


class _ByReader(_Decode):
    """Decodes with a format: to a value if each file is one sample, else to the list of its samples."""

    def __init__(self, declared: ReaderPlugin | Reader | str) -> None:
        self._reader = ProcessLocal(partial(make_reader, declared))

    def __call__(self, data: bytes, name: str, limits: Limits) -> Any:
        reader = self._reader.get()
        file = BytesFile(data, name, limits=limits)
        try:
            samples = list(reader.samples(file))
            whole = _is_one_sample(reader, file)
        except IPFSDatasetError as error:
            # The file is a member: the reader of the archive or folder adds its location to errors.
            copy = with_message(error, error.reason or str(error))
            copy.location = copy.reason = None
            raise copy from error.__cause__
        return samples[0][1] if whole else samples


def _is_one_sample(reader: Reader, file: BytesFile) -> bool:
    """Returns whether each file of a format is one sample, regardless of its content."""
    plain = unguarded(reader)
    if is_whole_file(type(plain)):
        return True
    return plain.cheap_index and isinstance(plain.index(file), WholeFileIndex)


def _decode_of(suffix: str, decoder: Any) -> _Decode:
    if is_reader_class(decoder):
        return _ByReader(declaration_of(decoder, decoder.__name__))
    if isinstance(decoder, (Reader, ReaderPlugin, str)):
        return _ByReader(decoder)
    if not callable(decoder):
        raise TypeError(
            f"the decoder of {suffix!r} must be a function of bytes, a format's class or its name, "
            f"not {decoder!r}"
        )
    return _ByFunction(decoder)
