"""Gathers statistics of a dataset, and some of its samples, during an export, in bounded memory.

The result depends only on the samples and their order, so that equal datasets have equal pages. The
statistics of parts exported by several processes are merged.
"""

from __future__ import annotations

import heapq
import json
import re
from bisect import bisect_left
from collections import Counter
from contextlib import suppress
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core import IPFSDatasetError
from ipfs_dataset_plugins.tar_shards.codecs.schema import Member, schema_text
from ipfs_dataset_plugins.tar_shards.page.previews import (
    MAX_SHORT,
    Field,
    Preview,
    fields_of,
    inline_fields,
    label_bytes,
    preview,
    preview_from_json,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_plugins.tar_shards.codecs.schema import Schema

# Number of samples on a page if there is no card.
PREVIEWS = 48
# Labels that are numbers or texts: more distinct values than this are not classes.
MAX_LABELS = 1 << 16
_MAX_LABEL = 64
_LABEL_CODECS = ("int", "str")
_LABEL_NAMES = frozenset(
    {"label", "labels", "target", "class", "y", "category", "cls", "fine_label"}
)
# Maximum number of fields that are candidates for the label, which is chosen when all are counted.
_MAX_CANDIDATES = 4
# A larger sample is drawn as soon as it is chosen, and its bytes are dropped.
_KEPT_BYTES = 64 << 10
_COUNTED_AT_ONCE = 256
# Limits for the record of a part, of which there may be thousands.
_PART_PREVIEWS = 8
_PART_BYTES = 4 << 10
_PART_LABELS = 4096
_PART_INLINE = 64
# 2^64 divided by the golden ratio. Multiples of it, modulo 2^64, are evenly spread, and so are the sample
# numbers whose multiples are below any limit, without a period that labels might share.
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1

# The negated rank, the number of the sample, and the sample.
_Kept = tuple[int, int, "Preview | tuple[Schema, list[tuple[str, bytes]]]"]


@attrs.define
class Statistics:
    """The statistics of the samples that a page shows.

    Args:
        previews: Maximum number of samples shown.

    Attributes:
        samples: Number of samples.
        others: Number of samples whose structure differs from the first sample's.
        schema: Structure of the first sample.
        sizes: Total bytes of each field, by the suffix of its members.
        labels: For each candidate for the label, the number of samples by encoded value; None if there are
            too many values. Fields are named by the suffix of their members, with ``#`` and a key if each
            sample is JSON.
        inline: The fields in each sample, if each sample is a single JSON member.
    """

    previews: int = PREVIEWS
    samples: int = 0
    others: int = 0
    schema: Schema | None = None
    sizes: dict[str, int] = attrs.Factory(dict)
    labels: dict[str, dict[bytes, int] | None] = attrs.Factory(dict)
    inline: list[Field] = attrs.Factory(list)
    # A heap whose first item is the next to be dropped.
    _kept: list[_Kept] = attrs.Factory(list)
    _inline_labels: list[tuple[str, Any]] = attrs.Factory(list)
    _flat: FlatJson | None = None
    # JSON samples whose labels are still to be counted.
    _pending: list[bytes] = attrs.Factory(list)
    # Samples are kept if their rank is below this.
    _limit: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._limit = _MASK + 1 if self.previews else 0

    def add(self, schema: Schema, members: list[tuple[str, bytes]]) -> None:
        """Counts a sample.

        Args:
            schema: Its structure; samples with the structure of the first share its schema object.
            members: Its encoded members.
        """
        if self.schema is None:
            self._learn(schema, members)
        if schema is self.schema:
            sizes, labels = self.sizes, self.labels
            for suffix, payload in members:
                sizes[suffix] += len(payload)
                if suffix in labels:
                    counts = labels[suffix]
                    if counts is not None and payload in counts:
                        counts[payload] += 1
                    else:
                        self._count(suffix, payload)
            if self._inline_labels:
                # Counting many together is faster than one by one.
                payload = members[0][1]
                self._pending.append(payload)
                if len(self._pending) >= _COUNTED_AT_ONCE or len(payload) > _KEPT_BYTES:
                    self.finish()
        else:
            self.others += 1
        position = self.samples
        rank = position * _GOLDEN & _MASK
        if rank < self._limit:
            self._keep(rank, schema, members)
        self.samples = position + 1

    def _learn(self, schema: Schema, members: list[tuple[str, bytes]]) -> None:
        self.schema = schema
        self.sizes = dict.fromkeys((suffix for suffix, _ in members), 0)
        if isinstance(schema, Member) and schema.codec == "json":
            with suppress(IPFSDatasetError):
                self.inline = inline_fields(members[0][1], schema.suffix)
        candidates = label_candidates(self.fields())
        self.labels = {field.suffix: {} for field in candidates}
        if self.inline:
            self._inline_labels = [(field.suffix, field.path[0]) for field in candidates]
            self._flat = flat_json(members[0][1], [field.path[0] for field in candidates])

    def fields(self) -> list[Field]:
        """Returns the fields that most samples have."""
        return self.inline or fields_of(self.schema)

    def finish(self) -> None:
        """Counts the labels of the last samples; to be called after the last `add`."""
        payloads, self._pending = self._pending, []
        found = self._flat and self._flat.labels(payloads)
        if not found:
            for payload in payloads:
                self._count_inline(payload)
            return
        for suffix, counts in zip(self.labels, found, strict=True):
            for label, count in counts.items():
                self._count(suffix, label, count)

    def _count_inline(self, payload: bytes) -> None:
        """Counts the labels in a sample that is a single JSON member."""
        value: Any = None
        for suffix, key in self._inline_labels:
            if self.labels[suffix] is None:
                continue
            label = found_label(payload, key)
            if label is None:
                value = json.loads(payload) if value is None else value
                label = _parsed_label(value, key)
            if label is not None:
                self._count(suffix, label)

    def _count(self, suffix: str, label: bytes, count: int = 1) -> None:
        counts = self.labels[suffix]
        if counts is None:
            return
        known = counts.get(label, 0)
        counts[label] = known + count
        if not known and (len(label) > _MAX_LABEL or len(counts) > MAX_LABELS):
            self.labels[suffix] = None

    def _keep(self, rank: int, schema: Schema, members: list[tuple[str, bytes]]) -> None:
        large = sum(len(payload) for _, payload in members) > _KEPT_BYTES
        sample = preview(self.samples, schema, members) if large else (schema, members)
        kept = (-rank, self.samples, sample)
        if len(self._kept) < self.previews:
            heapq.heappush(self._kept, kept)
        else:
            heapq.heapreplace(self._kept, kept)
        if len(self._kept) == self.previews:
            self._limit = -self._kept[0][0]

    def keep(self, shown: Preview) -> None:
        """Adds the preview of a sample that was counted elsewhere."""
        self._kept.append((0, shown.position, shown))

    def merge(self, part: Statistics, *, same: bool) -> None:
        """Adds the statistics of the next part.

        Args:
            part: Its statistics.
            same: Whether its samples have the structure of these.
        """
        if same:
            if not self.inline and part.inline:
                self.inline, self.labels = part.inline, {suffix: {} for suffix in part.labels}
            for suffix, size in part.sizes.items():
                self.sizes[suffix] += size
            for suffix, counts in self.labels.items():
                found = part.labels.get(suffix)
                if counts is None or found is None:
                    self.labels[suffix] = None
                    continue
                for label, count in found.items():
                    counts[label] = counts.get(label, 0) + count
                if len(counts) > MAX_LABELS:
                    self.labels[suffix] = None
        for shown in part.shown():
            self.keep(attrs.evolve(shown, position=shown.position + self.samples))
        # Only every other sample, because there may be thousands of parts.
        if len(self._kept) > 8 * max(self.previews, 1):
            self._kept = self._kept[::2]
        self.samples += part.samples
        self.others += part.others if same else part.samples

    def shown(self) -> list[Preview]:
        """Returns the samples to show, spread over the dataset."""
        kept = sorted(self._kept, key=itemgetter(1))
        most = min(self.previews, len(kept))
        positions = [position for _, position, _ in kept]
        chosen, start = [], 0
        for number in range(most):
            at = bisect_left(positions, number * self.samples // most, start)
            # Stops when only as many are left as still have to be chosen.
            start = min(at, len(positions) - (most - number)) + 1
            chosen.append(kept[start - 1])
        return [
            sample if isinstance(sample, Preview) else preview(position, *sample)
            for _, position, sample in chosen
        ]

    @property
    def label(self) -> str | None:
        """The field that contains the classes of samples; None if ambiguous."""
        fields = {field.suffix: field for field in self.fields()}
        able = [
            fields[suffix]
            for suffix, counts in self.labels.items()
            if suffix in fields and counts and not self._is_id(counts)
        ]
        named = [field for field in able if str(field.path[-1]).lower() in _LABEL_NAMES]
        if named:
            return named[0].suffix
        for codec in _LABEL_CODECS:
            found = [field for field in able if field.codec == codec]
            varied = [field for field in found if len(self.labels[field.suffix] or ()) > 1]
            if len(varied) == 1 or (not varied and found and len(self.labels) == 1):
                return (varied or found)[0].suffix
            if varied:
                return None
        return None

    def _is_id(self, counts: dict[bytes, int]) -> bool:
        """Returns whether nearly every sample has a distinct value."""
        return len(counts) > 20 and len(counts) * 2 > self.samples  # noqa: PLR2004

    def histogram(self) -> list[tuple[bytes, int]]:
        """Returns the labels with their sample counts; none if they are not classes."""
        label = self.label
        counts = None if label is None else self.labels[label]
        return sorted(counts.items(), key=label_order) if counts and not self.others else []

    def to_json(self) -> dict[str, Any]:
        """Returns the statistics for the record of a part, about 5 KB: few previews, no long lists."""
        previews: list[Any] = []
        room = _PART_BYTES
        for found in attrs.evolve(self, previews=min(self.previews, _PART_PREVIEWS)).shown():
            fields = found.to_json()
            room -= len(json.dumps(fields))
            if room < 0:
                break
            previews.append(fields)
        return {
            "samples": self.samples,
            "others": self.others,
            "sizes": self.sizes,
            "labels": {
                suffix: {label.decode("latin-1"): count for label, count in counts.items()}
                if counts is not None and len(counts) <= _PART_LABELS
                else None
                for suffix, counts in self.labels.items()
            },
            "previews": previews,
            "inline": [
                [field.path[0], field.codec]
                for field in self.inline
                if type(field.path[0]) in (int, str)
            ],
        }


def merged(
    parts: Iterable[Statistics], schema: Schema | None, previews: int = PREVIEWS
) -> Statistics:
    """Merges the statistics of the parts of a dataset.

    Args:
        parts: Statistics of the parts, in order.
        schema: Structure of most samples.
        previews: Maximum number of samples shown on the page.
    """
    found = Statistics(previews, schema=schema)
    fields = fields_of(schema)
    found.sizes = dict.fromkeys((field.suffix for field in fields), 0)
    found.labels = {field.suffix: {} for field in label_candidates(fields)}
    text = None if schema is None else schema_text(schema)
    for part in parts:
        found.merge(part, same=part.schema is not None and schema_text(part.schema) == text)
    return found


def statistics_from_json(fields: Any, schema: Schema | None) -> Statistics:
    """Parses the result of `Statistics.to_json`, which may come from an untrusted machine.

    Args:
        fields: The result of the json module.
        schema: Structure of most samples.

    Raises:
        ValueError: It is something else.
        TypeError: It is something else.
        LookupError: It is something else.
    """
    found = Statistics(schema=schema)
    found.samples, found.others = _count(fields["samples"]), _count(fields["others"])
    sizes, labels, previews = fields["sizes"], fields["labels"], fields["previews"]
    inline = fields["inline"]
    if len(inline) > _PART_INLINE or len(previews) > _PART_PREVIEWS:
        raise ValueError("it has too many fields or previews")
    if isinstance(schema, Member):
        found.inline = [
            Field((_key(key),), _text(codec), f"{schema.suffix}#{key}") for key, codec in inline
        ]
    known = {field.suffix for field in fields_of(schema)}
    found.sizes = {suffix: _count(sizes[suffix]) for suffix in known if suffix in sizes}
    for field in label_candidates(found.fields()):
        found.labels[field.suffix] = _counts(labels[field.suffix])
    for one in previews:
        shown = preview_from_json(one)
        if shown.position >= found.samples:
            raise ValueError(f"it shows sample {shown.position} of {found.samples}")
        found.keep(shown)
    return found


def _counts(labels: Any) -> dict[bytes, int] | None:
    if labels is None:
        return None
    if len(labels) > _PART_LABELS or any(len(name) > _MAX_LABEL for name in labels):
        raise ValueError("it has too many labels, or labels that are too long")
    return {name.encode("latin-1"): _count(count) for name, count in labels.items()}


def _key(value: Any) -> int | str:
    if type(value) not in (int, str) or len(str(value)) > 1000:  # noqa: PLR2004
        raise ValueError(f"{value!r:.40} is not a key")
    return value  # type: ignore[no-any-return]


def _text(value: Any) -> str:
    if type(value) is not str or len(value) > _MAX_LABEL:
        raise ValueError(f"{value!r:.40} is not the name of a codec")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"{value!r:.40} is not a count")
    return value


def _parsed_label(value: Any, key: Any) -> bytes | None:
    """Returns the label in a parsed JSON sample."""
    if type(value) is dict and "$tuple" in value:
        value = value["$tuple"]
    try:
        return label_bytes(value[key])
    except (LookupError, TypeError):
        return None


class FlatJson:
    """Finds labels in JSON samples that are containers of numbers and texts, without parsing them.

    Args:
        pattern: Matches such a sample on a line of its own; its groups are the labels.
    """

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern

    def labels(self, payloads: list[bytes]) -> list[dict[bytes, int]] | None:
        """Counts the labels in samples, for each of the groups; labels have the form of `label_bytes`.

        Returns:
            The number of samples by label, for each group; None if a sample has to be parsed.
        """
        # JSON written by this library contains no line breaks.
        found = self._pattern.findall(b"\n".join(payloads))
        if len(found) != len(payloads):
            return None
        columns = [found] if self._pattern.groups == 1 else zip(*found, strict=True)
        labels: list[dict[bytes, int]] = []
        for column in columns:
            counts: dict[bytes, int] = {}
            for text, count in Counter(column).items():
                if text[:1] == b'"':
                    if len(text) - 2 <= MAX_SHORT:
                        counts[text[1:-1]] = counts.get(text[1:-1], 0) + count
                elif text.removeprefix(b"-").isdigit():
                    if len(text) > _SURE_DIGITS:
                        return None
                    counts[text] = counts.get(text, 0) + count
            labels.append(counts)
        return labels


# A scalar as written by `scalars.dumps`, except texts with escaped characters.
_SCALAR = rb'(?:"[^"\\\n]*"|[-+.0-9A-Za-z]+)'
# Integers of at most this many digits fit into 64 bits.
_SURE_DIGITS = 18


def flat_json(payload: bytes, keys: list[Any]) -> FlatJson | None:
    """Returns a label finder for samples like the given one; None if the sample is not flat.

    Args:
        payload: The JSON of a tuple, list or dict.
        keys: Keys or indices of the labels.
    """
    value = json.loads(payload)
    start, end = b"", b""
    if type(value) is dict and list(value) == ["$tuple"]:
        value, start, end = value["$tuple"], b'{"$tuple":', b"}"
    if not 0 < len(value) <= _PART_INLINE:
        return None
    if type(value) is dict and any(name.startswith("$") for name in value):
        return None
    if type(value) is dict:
        wanted: list[Any] = list(value)
        names = [json.dumps(name, ensure_ascii=False).encode() + b":" for name in value]
        start, end = start + b"{", b"}" + end
    else:
        wanted = list(range(len(value)))
        names = [b""] * len(value)
        start, end = start + b"[", b"]" + end
    groups = [b"(%b)" % _SCALAR if key in keys else _SCALAR for key in wanted]
    parts = [re.escape(name) + group for name, group in zip(names, groups, strict=True)]
    pattern = re.compile(
        b"^" + re.escape(start) + b",".join(parts) + re.escape(end) + b"$", re.MULTILINE
    )
    return FlatJson(pattern) if pattern.fullmatch(payload) else None


def found_label(payload: bytes, key: Any) -> bytes | None:
    """Finds the label in a JSON sample without parsing the sample.

    Args:
        payload: A dict whose values are not containers, or a tuple or list whose last value is the label.
        key: The key or index of the label.

    Returns:
        The label, an integer as written; None if the sample has to be parsed.
    """
    if type(key) is str:
        # Quotation marks within text are escaped, so this can only be the key.
        name = b'"%b":' % key.encode("utf-8", "replace")
        start = payload.rfind(name)
        if start < 1 or payload[start - 1] not in b"{," or payload.count(b"{") != 1:
            return None
        start += len(name)
        end = payload.find(b",", start)
        label = payload[start : end if end >= 0 else len(payload) - 1]
    else:
        start = payload.rfind(b",")
        if start < 0 or payload.count(b",") != key:
            return None
        label = payload[start + 1 :].rstrip(b"]}")
    return label if label.removeprefix(b"-").isdigit() and len(label) < 19 else None  # noqa: PLR2004


def label_order(item: tuple[bytes, int]) -> tuple[int, int, bytes]:
    """Sort key that orders numbers by value, before all else by text."""
    label = item[0]
    return (0, int(label), b"") if label.removeprefix(b"-").isdigit() else (1, 0, label)


def label_candidates(fields: list[Field]) -> list[Field]:
    """Returns the fields that may be the label of a sample: by their names, else numbers and texts."""
    able = [field for field in fields if field.codec in _LABEL_CODECS and field.path]
    named = [field for field in able if str(field.path[-1]).lower() in _LABEL_NAMES]
    return (named or able)[:_MAX_CANDIDATES]
