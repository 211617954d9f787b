"""Statistics of a dataset, and some of its samples, gathered while it is exported, in bounded memory.

They are a function of the samples and their order alone, so that equal datasets have equal pages. Those of
parts that are exported by several processes are merged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_plugins.tar_shards.page.previews import Field, Preview, fields_of, preview

if TYPE_CHECKING:
    from ipfs_dataset_plugins.tar_shards.codecs.schema import Schema

# Of labels that are numbers or texts; more of them are no classes.
MAX_LABELS = 1 << 16
_MAX_LABEL = 64
_LABEL_CODECS = frozenset({"int", "str", "json"})
_LABEL_NAMES = frozenset({"label", "labels", "target", "class", "y", "category", "cls", "fine_label"})
# A sample with more is drawn as soon as it is chosen, and its bytes are dropped.
_KEPT_BYTES = 64 << 10

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
        label: The suffix of the members that are labels.
    """

    previews: int = 48
    samples: int = 0
    others: int = 0
    schema: Schema | None = None
    sizes: dict[str, int] = attrs.Factory(dict)
    labels: dict[bytes, int] | None = attrs.Factory(dict)
    label: str | None = None
    _kept: list[_Kept | Preview] = attrs.Factory(list)
    _stride: int = 1

    def add(self, schema: Schema, members: list[tuple[str, bytes]]) -> None:
        """Counts a sample.

        Args:
            schema: Its structure; that of most samples is the object that the first one has.
            members: Its encoded members.
        """
        if self.schema is None:
            self.schema = schema
            self.sizes = dict.fromkeys((suffix for suffix, _ in members), 0)
            self.label = label_of(fields_of(schema))
        if schema is self.schema:
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

    def shown(self) -> list[Preview]:
        """Returns the samples to show, spread over the dataset."""
        count = len(self._kept)
        most = min(self.previews, count)
        chosen = [self._kept[number * count // most] for number in range(most)]
        return [kept if isinstance(kept, Preview) else preview(*kept) for kept in chosen]

    def histogram(self) -> list[tuple[bytes, int]]:
        """Returns the labels and how many samples have each, none where they are no classes."""
        if not self.labels or self.others:
            return []
        ids = len(self.labels) > 20 and len(self.labels) * 2 > self.samples  # noqa: PLR2004
        return [] if ids else sorted(self.labels.items(), key=_label_order)


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
