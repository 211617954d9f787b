"""Statistics of a dataset, and some of its samples, gathered while it is exported, in bounded memory.

They are a function of the samples and their order alone, so that equal datasets have equal pages. Those of
parts that are exported by several processes are merged.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core import IPFSDatasetError
from ipfs_dataset_plugins.tar_shards.codecs.schema import Member, schema_text
from ipfs_dataset_plugins.tar_shards.page.previews import (
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

# How many samples a page shows where there is no card.
PREVIEWS = 48
# Of labels that are numbers or texts; more of them are no classes.
MAX_LABELS = 1 << 16
_MAX_LABEL = 64
_LABEL_CODECS = frozenset({"int", "str", "json"})
_LABEL_NAMES = frozenset(
    {"label", "labels", "target", "class", "y", "category", "cls", "fine_label"}
)
# A sample with more is drawn as soon as it is chosen, and its bytes are dropped.
_KEPT_BYTES = 64 << 10

# Of the record of a part, of which there may be thousands.
_PART_PREVIEWS = 8
_PART_BYTES = 4 << 10
_PART_LABELS = 4096
_PART_INLINE = 64

_Kept = tuple[int, "Schema", list[tuple[str, bytes]]]


@attrs.define
class Statistics:
    """What a page shows of the samples.

    Args:
        previews: How many samples it shows at most.

    Attributes:
        samples: How many there are.
        others: How many of them have a structure of their own.
        schema: The structure of the first one.
        sizes: Bytes of each field in all samples, by the suffix of its members.
        labels: How many samples have each label, as it is encoded; None where there are too many.
        label: The suffix of the members that are labels, with ``#`` and a key where each sample is JSON.
        inline: The values in each sample, where it is one member of JSON.
    """

    previews: int = PREVIEWS
    samples: int = 0
    others: int = 0
    schema: Schema | None = None
    sizes: dict[str, int] = attrs.Factory(dict)
    labels: dict[bytes, int] | None = attrs.Factory(dict)
    label: str | None = None
    _kept: list[_Kept | Preview] = attrs.Factory(list)
    _stride: int = 1
    inline: list[Field] = attrs.Factory(list)
    _inline_label: Any = None

    def add(self, schema: Schema, members: list[tuple[str, bytes]]) -> None:
        """Counts a sample.

        Args:
            schema: Its structure; that of most samples is the object that the first one has.
            members: Its encoded members.
        """
        if self.schema is None:
            self._learn(schema, members)
        if schema is self.schema:
            if self._inline_label is not None:
                self._count_inline(members[0][1])
            sizes, label = self.sizes, self.label
            for suffix, payload in members:
                sizes[suffix] += len(payload)
                if suffix == label:
                    self._count(payload)
        else:
            self.others += 1
        if self.samples % self._stride == 0 and self.previews:
            self._keep(schema, members)
        self.samples += 1

    def _learn(self, schema: Schema, members: list[tuple[str, bytes]]) -> None:
        self.schema = schema
        self.sizes = dict.fromkeys((suffix for suffix, _ in members), 0)
        self.inline = []
        if isinstance(schema, Member) and schema.codec == "json":
            with suppress(IPFSDatasetError):
                self.inline = inline_fields(members[0][1], schema.suffix)
        self.label = label_of(self.fields())
        self._inline_label = next((f.path[0] for f in self.inline if f.suffix == self.label), None)

    def fields(self) -> list[Field]:
        """Returns the values that most samples have."""
        return self.inline or fields_of(self.schema)

    def _count_inline(self, payload: bytes) -> None:
        """Counts the label in a sample that is one member of JSON."""
        if self.labels is None:
            return
        value = json.loads(payload)
        if type(value) is dict and len(value) == 1 and "$tuple" in value:
            value = value["$tuple"]
        try:
            label = label_bytes(value[self._inline_label])
        except (LookupError, TypeError):
            return
        if label is not None:
            self._count(label)

    def _count(self, payload: bytes) -> None:
        if self.labels is None:
            return
        known = self.labels.get(payload, 0)
        self.labels[payload] = known + 1
        if not known and (len(payload) > _MAX_LABEL or len(self.labels) > MAX_LABELS):
            self.labels = None

    def _keep(self, schema: Schema, members: list[tuple[str, bytes]]) -> None:
        kept: _Kept | Preview = (self.samples, schema, members)
        if sum(len(payload) for _, payload in members) > _KEPT_BYTES:
            kept = preview(self.samples, schema, members)
        self._kept.append(kept)
        # Twice as many as are shown, so that there are enough after every other one was dropped.
        if len(self._kept) > 2 * self.previews:
            self._kept = self._kept[::2]
            self._stride *= 2

    def keep(self, shown: Preview) -> None:
        """Adds a preview behind all others."""
        self._kept.append(shown)

    def merge(self, part: Statistics, *, same: bool) -> None:
        """Adds the statistics of the next part.

        Args:
            part: They.
            same: Whether its samples have the structure of these.
        """
        if same:
            if not self.inline:
                self.inline = part.inline
                self.label = label_of(self.fields())
            for suffix, size in part.sizes.items():
                self.sizes[suffix] += size
            if self.labels is not None and part.labels is not None:
                for label, count in part.labels.items():
                    self.labels[label] = self.labels.get(label, 0) + count
                if len(self.labels) > MAX_LABELS:
                    self.labels = None
            else:
                self.labels = None
        for shown in part.shown():
            self._kept.append(attrs.evolve(shown, position=shown.position + self.samples))
        # Every other one, as when all samples are counted by one process.
        if len(self._kept) > 8 * max(self.previews, 1):
            self._kept = self._kept[::2]
        self.samples += part.samples
        self.others += part.others if same else part.samples

    def shown(self) -> list[Preview]:
        """Returns the samples to show, spread over the dataset."""
        most = min(self.previews, len(self._kept))
        positions = [kept.position if isinstance(kept, Preview) else kept[0] for kept in self._kept]
        chosen, start = [], 0
        for number in range(most):
            at = bisect_left(positions, number * self.samples // most, start)
            # As many are left as are still to be chosen.
            start = min(at, len(positions) - (most - number)) + 1
            chosen.append(self._kept[start - 1])
        return [kept if isinstance(kept, Preview) else preview(*kept) for kept in chosen]

    def to_json(self) -> dict[str, Any]:
        """Returns what the record of a part has of them, some 5 KB: few previews, no long lists."""
        previews: list[Any] = []
        room = _PART_BYTES
        shown = attrs.evolve(self, previews=min(self.previews, _PART_PREVIEWS)).shown()
        for found in shown:
            fields = found.to_json()
            room -= len(json.dumps(fields))
            if room < 0:
                break
            previews.append(fields)
        labels = (
            self.labels if self.labels is not None and len(self.labels) <= _PART_LABELS else None
        )
        return {
            "samples": self.samples,
            "others": self.others,
            "sizes": self.sizes,
            "labels": None
            if labels is None
            else {k.decode("latin-1"): n for k, n in labels.items()},
            "previews": previews,
            "inline": [
                [field.path[0], field.codec]
                for field in self.inline
                if type(field.path[0]) in (int, str)
            ],
        }

    def histogram(self) -> list[tuple[bytes, int]]:
        """Returns the labels and how many samples have each, none where they are no classes."""
        if not self.labels or self.others:
            return []
        ids = len(self.labels) > 20 and len(self.labels) * 2 > self.samples  # noqa: PLR2004
        return [] if ids else sorted(self.labels.items(), key=_label_order)


def merged(
    parts: Iterable[Statistics], schema: Schema | None, previews: int = PREVIEWS
) -> Statistics:
    """Returns the statistics of a dataset that was exported in parts.

    Args:
        parts: Those of its parts, in order.
        schema: The structure of most of its samples.
        previews: How many samples its page shows at most.
    """
    found = Statistics(previews, schema=schema)
    found.sizes = dict.fromkeys((field.suffix for field in fields_of(schema)), 0)
    found.label = label_of(found.fields())
    text = None if schema is None else schema_text(schema)
    for part in parts:
        found.merge(part, same=part.schema is not None and schema_text(part.schema) == text)
    return found


def statistics_from_json(fields: Any, schema: Schema | None) -> Statistics:
    """Returns what `Statistics.to_json` wrote, which may come from anywhere.

    Args:
        fields: What the json module parsed.
        schema: The structure of most of the samples.

    Raises:
        ValueError: It is something else.
        TypeError: Likewise.
        LookupError: Likewise.
    """
    found = Statistics(schema=schema)
    inline = fields["inline"]
    if len(inline) > _PART_INLINE or any(
        type(k) not in (int, str) or type(c) is not str for k, c in inline
    ):
        raise ValueError("its fields are damaged")
    if isinstance(schema, Member):
        found.inline = [
            Field((key,), codec[:64], f"{schema.suffix}#{key}") for key, codec in inline
        ]
    found.label = label_of(found.fields())
    found.samples, found.others = _count(fields["samples"]), _count(fields["others"])
    sizes, labels, previews = fields["sizes"], fields["labels"], fields["previews"]
    known = {field.suffix for field in fields_of(schema)}
    found.sizes = {suffix: _count(sizes[suffix]) for suffix in known if suffix in sizes}
    if labels is None:
        found.labels = None
    else:
        if len(labels) > _PART_LABELS or any(len(name) > _MAX_LABEL for name in labels):
            raise ValueError("its labels are too many or too long")
        found.labels = {name.encode("latin-1"): _count(count) for name, count in labels.items()}
    if len(previews) > _PART_PREVIEWS:
        raise ValueError("its previews are too many")
    for one in previews:
        shown = preview_from_json(one)
        if shown.position >= found.samples:
            raise ValueError(f"it shows sample {shown.position} of {found.samples}")
        found.keep(shown)
    return found


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"{value!r:.40} is not a count")
    return value


def _label_order(item: tuple[bytes, int]) -> tuple[int, int, bytes]:
    """Sorts numbers by their value, before all else by its text."""
    label = item[0]
    number = label.removeprefix(b"-")
    return (0, int(label), b"") if number.isdigit() else (1, 0, label)


def label_of(fields: list[Field]) -> str | None:
    """Returns the suffix of the field that looks like the label of a sample."""
    able = [field for field in fields if field.codec in _LABEL_CODECS and field.path]
    named = [field for field in able if str(field.path[-1]).lower() in _LABEL_NAMES]
    numbers = [field for field in able if field.codec == "int"]
    for found in (named, numbers, able if len(fields) > 1 else []):
        if found and (found is named or len(found) == 1):
            return found[0].suffix
    return None
