"""The author's description of a published dataset: its name, licence and so on."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

from ipfs_dataset_core.errors import FormatError, MissingDependencyError

MAX_LINE = 500
MAX_TEXT = 1 << 16
MAX_README = 1 << 20
MAX_ITEMS = 200
MAX_CLASSES = 1 << 18
MAX_PREVIEWS = 200
PREVIEWS = 48
_MAX_HEADER = 1 << 16
_MAX_URL = 2048
_FIRST_VERSION = "1.0.0"
_SCHEMES = ("http", "https", "ipfs", "ipns")
_HEADER = re.compile(
    r"\ufeff?---[ \t]*\r?\n(.*?)^(?:---|\.\.\.)[ \t]*\r?$\n?", re.DOTALL | re.MULTILINE
)
_BIBTEX = re.compile(r"^```(?:bibtex|bib)?[ \t]*\n[ \t]*(@\w+\{.*?)^```", re.DOTALL | re.MULTILINE)
# Characters that reorder the text around them, so that a text appears to be another one.
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Licences of the Hugging Face Hub that are not SPDX identifiers.
_HUB_LICENCES = frozenset(
    {
        *(
            "other",
            "unknown",
            "openrail",
            "openrail++",
            "bigscience-openrail-m",
            "creativeml-openrail-m",
        ),
        *(
            "bigscience-bloom-rail-1.0",
            "bigcode-openrail-m",
            "llama2",
            "llama3",
            "llama3.1",
            "llama3.2",
        ),
        *(
            "llama3.3",
            "llama4",
            "gemma",
            "deepfloyd-if-license",
            "apple-ascl",
            "apple-amlr",
            "cc",
            "lgpl",
        ),
        *("fair-noncommercial-research-license", "intel-research", "grok2-community", "gpl", "bsd"),
        *("lgpl-lr", "c-uda", "etalab-2.0", "h-research"),
    }
)


def plain_text(value: Any, *, most: int, lines: bool, what: str) -> str:
    """Checks and returns text that may be shown anywhere.

    Args:
        value: The text.
        most: Maximum number of characters.
        lines: Whether several lines are allowed.
        what: Name of the text in messages.

    Raises:
        ValueError: It is not text, too long, or has characters that control a terminal or reorder text.
    """
    if not isinstance(value, str):
        raise ValueError(f"{what} is {value!r:.80}, not text")  # noqa: TRY004 - one kind of error for all
    if len(value) > most:
        raise ValueError(f"{what} has {len(value)} characters, more than {most}")
    if lines:
        value = value.replace("\r\n", "\n").replace("\r", "\n")
    allowed = "\n\t" if lines else ""
    for character in value:
        if character < " " or character > "~":
            bad = unicodedata.category(character) in ("Cc", "Cs", "Cn", "Zl", "Zp")
            if character not in allowed and (bad or character in _REORDERING):
                raise ValueError(f"{what} has the character U+{ord(character):04X}")
    return str(value.strip())


def class_numbers(names: Any) -> dict[str, int]:
    """Returns the number of each class by its name.

    Args:
        names: The names in order, or their numbers by name.

    Raises:
        ValueError: The names are not distinct texts of one line, each with a number, or they are a set, whose
            order changes from process to process.
    """
    if isinstance(names, Mapping):
        pairs = list(islice(names.items(), MAX_CLASSES + 1))
    elif isinstance(names, AbstractSet):
        raise ValueError(  # noqa: TRY004 - as for other names that cannot be used
            "the names of classes are a set, which has no order: give a list or a dict"
        )
    elif isinstance(names, Iterable) and not isinstance(names, (str, bytes)):
        pairs = [(name, number) for number, name in enumerate(islice(names, MAX_CLASSES + 1))]
    else:
        raise ValueError(f"the names of classes must be a list or a dict, not {names!r:.80}")  # noqa: TRY004
    if len(pairs) > MAX_CLASSES:
        raise ValueError(f"there are more than {MAX_CLASSES:,} names of classes")
    for name, number in pairs:
        if type(name) is not str or len(name) > MAX_LINE:
            raise ValueError(
                f"the name of a class is {name!r:.80}, not text of up to {MAX_LINE} characters"
            )
        if type(number) is not int or not -(1 << 63) <= number < 1 << 63:
            raise ValueError(f"the class {name!r:.80} has the number {number!r:.40}")
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("two classes have the same name")
    return found


def compact_classes(names: Any) -> tuple[str, ...] | dict[str, int]:
    """Returns the names of classes as a tuple if they are numbered 0, 1, 2…, else their numbers by name."""
    numbers = class_numbers(names)
    if list(numbers.values()) == list(range(len(numbers))):
        return tuple(numbers)
    return numbers


def spdx(licence: str) -> str:
    """Returns a licence in the spelling of SPDX.

    Args:
        licence: An SPDX identifier or expression, in any case: ``"cc-by-4.0"``, ``"MIT OR Apache-2.0"``; for
            other licences ``"LicenseRef-…"``.

    Raises:
        ValueError: It is not an SPDX expression.
    """
    # The list of licences is large, and most processes do not need it.
    from packaging.licenses import (  # noqa: PLC0415
        InvalidLicenseExpression,
        canonicalize_license_expression,
    )

    text = plain_text(licence, most=MAX_LINE, lines=False, what="the licence")
    try:
        return str(canonicalize_license_expression(text))
    except InvalidLicenseExpression as error:
        raise ValueError(
            f"the licence {text!r} is not an SPDX identifier ({error}): see https://spdx.org/licenses, "
            "such as 'CC-BY-4.0', 'CC0-1.0' or 'MIT'; 'LicenseRef-…' names one that is not listed there"
        ) from error


def _line(value: Any, name: str) -> str:
    return plain_text(value, most=MAX_LINE, lines=False, what=f"the {name} of a card")


def _text(value: Any, name: str, most: int = MAX_TEXT) -> str:
    return plain_text(value, most=most, lines=True, what=f"the {name} of a card")


def _items(value: Any, name: str) -> tuple[str, ...]:
    listed = [value] * bool(value) if isinstance(value, str) else value
    # The order of a set changes from process to process, and with it the CID.
    if not isinstance(listed, Iterable) or isinstance(listed, (bytes, Mapping, AbstractSet)):
        raise ValueError(f"the {name} of a card must be a list of texts, not {value!r:.80}")  # noqa: TRY004
    items = list(islice(listed, MAX_ITEMS + 1))
    if len(items) > MAX_ITEMS:
        raise ValueError(f"the {name} of a card must be at most {MAX_ITEMS}")
    what = f"one of the {name} of a card"
    texts = tuple(plain_text(item, most=MAX_LINE, lines=False, what=what) for item in items)
    if any(map(_is_blank, texts)):
        raise ValueError(f"{what} is empty: {texts!r:.80}")
    return texts


def _is_blank(text: str) -> bool:
    """Returns whether nothing of a text is visible, as with a zero-width space alone."""
    return all(unicodedata.category(character) in ("Cf", "Zs") for character in text)


def _name(value: Any) -> str:
    return _line(value, "name")


def _version(value: Any) -> str:
    return _line(value, "version") or _FIRST_VERSION


def _description(value: Any) -> str:
    return _text(value, "description")


def _citation(value: Any) -> str:
    return _text(value, "citation")


def _creators(value: Any) -> tuple[str, ...]:
    return _items(value, "creators")


def _keywords(value: Any) -> tuple[str, ...]:
    return _items(value, "keywords")


def _readme(value: Any) -> str:
    return _text(value, "readme", MAX_README)


def _homepage(value: Any) -> str | None:
    if value is None or value == "":
        return None
    text = plain_text(value, most=_MAX_URL, lines=False, what="the homepage of a card")
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise ValueError(f"the homepage {text!r:.80} is not a URL: {error}") from error
    if (
        parts.scheme.lower() not in _SCHEMES
        or not parts.netloc
        or re.search(r"[\s\"'<>\\^`{|}]", text)
    ):
        raise ValueError(
            f"the homepage {text!r:.80} is not a URL that starts with {'://, '.join(_SCHEMES)}://"
        )
    return text


def _licence(value: Any) -> str | None:
    return None if value is None or value == "" else spdx(value)


def _published(value: Any) -> str | None:
    if value is None or value == "":
        return None
    try:
        # YAML may also give a date object.
        return date.fromisoformat(str(value)).isoformat()
    except ValueError as error:
        raise ValueError(
            f"the date of a card must be one such as '2026-01-31', not {value!r:.40}"
        ) from error


def _classes(value: Any) -> tuple[str, ...] | dict[str, int]:
    return () if value is None else compact_classes(value)


def _previews(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_PREVIEWS:
        raise ValueError(
            f"the previews of a card must be a number from 0 to {MAX_PREVIEWS}, not {value!r:.40}"
        )
    return value


@attrs.frozen(kw_only=True)
class DatasetCard:
    """The author's description of a dataset, published in the manifest, on its page and as ``README.md``.

    Args:
        name: Title, in one line.
        description: Its content and how it was made: paragraphs separated by empty lines.
        licence: The licence, as an SPDX identifier or expression such as ``"CC-BY-4.0"``; ``"LicenseRef-…"``
            for a licence that SPDX does not list.
        citation: How to cite it, preferably BibTeX.
        homepage: The URL of its home page, if it has one elsewhere.
        creators: Names of its creators.
        classes: Class names in the order of their numbers, or the numbers by name. By default those of the
            dataset itself: its ``class_to_idx`` or ``classes``, as in torchvision.
        version: Its version; "1.0.0" if empty.
        published: Date of the first publication in ISO 8601, ``"2026-01-31"``.
        keywords: Keywords for searching.
        previews: Maximum number of samples shown on its page, 0 to 200.
        readme: The ``README.md`` to publish; by default one is written from the card.

    Raises:
        ValueError: An argument is invalid.
    """

    name: str = attrs.field(converter=_name)
    description: str = attrs.field(default="", converter=_description)
    licence: str | None = attrs.field(default=None, converter=_licence)
    citation: str = attrs.field(default="", converter=_citation)
    homepage: str | None = attrs.field(default=None, converter=_homepage)
    creators: tuple[str, ...] = attrs.field(default=(), converter=_creators)
    classes: tuple[str, ...] | dict[str, int] = attrs.field(default=(), converter=_classes)
    version: str = attrs.field(default=_FIRST_VERSION, converter=_version)
    published: str | None = attrs.field(default=None, converter=_published)
    keywords: tuple[str, ...] = attrs.field(default=(), converter=_keywords)
    previews: int = attrs.field(default=PREVIEWS, converter=_previews)
    readme: str = attrs.field(default="", converter=_readme, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if _is_blank(self.name):
            raise ValueError("a card needs a name")

    def to_json(self) -> dict[str, Any]:
        """Converts the card to objects that the json module can write, without fields that are not set."""
        fields = attrs.asdict(
            self, filter=lambda field, value: bool(value) or field.name == "previews"
        )
        fields.pop("readme", None)
        if self.previews == PREVIEWS:
            del fields["previews"]
        return {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}

    @classmethod
    def from_json(cls, fields: Any, what: str) -> DatasetCard:
        """Parses the card written by `to_json`.

        Args:
            fields: The result of the json module; unknown names in it are ignored.
            what: Name of the card in messages.

        Raises:
            FormatError: It is not a card.
        """
        if type(fields) is not dict:
            raise FormatError(f"{what} is not a card: {fields!r:.80}")
        known = {name: fields[name] for name in attrs.fields_dict(cls) if name in fields}
        licence = known.pop("licence", None)
        known.pop("readme", None)
        # Written by earlier versions.
        for name in ("creators", "keywords"):
            if type(known.get(name)) is list:
                known[name] = [item for item in known[name] if item != ""]
        try:
            card = cls(**known)
            if licence is not None:
                # Not checked against the SPDX list: the author's list may be newer than the one of this
                # process.
                text = plain_text(licence, most=MAX_LINE, lines=False, what="the licence of a card")
                object.__setattr__(card, "licence", text)
        except (ValueError, TypeError) as error:
            raise FormatError(f"{what} is damaged: {error}") from error
        return card

    @classmethod
    def from_readme(cls, readme: str | os.PathLike[str]) -> DatasetCard:
        """Reads the card from a ``README.md`` with a YAML header, as on the Hugging Face Hub.

        The header fields ``pretty_name`` or ``name``, ``description``, ``license`` or ``licence``,
        ``citation``, ``homepage``, ``creators`` or ``authors``, ``classes``, ``version``, ``published``,
        ``keywords`` or ``tags``, and ``previews`` are used, as well as the names of the only ``class_label``
        of ``dataset_info``. Missing fields are taken from the text: the first heading, the first paragraph,
        and the first ``bibtex`` block.

        Args:
            readme: The path of the file, or its text, which contains a line break.

        Raises:
            FormatError: It is not such a file, or cannot be read; it is a `ValueError` as well.
            MissingDependencyError: PyYAML is not installed.
        """
        try:
            text = _readme_text(readme)
            header, body = _split(text)
            fields = _parsed(header) if header else {}
            found = {**_from_body(body), **_from_header(fields)}
            if "name" not in found:
                raise ValueError("the README has neither a name in its header nor a heading")  # noqa: TRY301
            return cls(**found, readme=text)
        except (ValueError, TypeError) as error:
            what = (
                "the text given"
                if isinstance(readme, str) and "\n" in readme
                else f"{str(readme)!r:.200}"
            )
            raise FormatError(f"{what} is not a card: {error}") from error

    def to_readme(self) -> str:
        """Returns the ``README.md`` of the card, with a YAML header as on the Hugging Face Hub."""
        if self.readme:
            return self.readme if self.readme.endswith("\n") else self.readme + "\n"
        header = {
            "pretty_name": self.name,
            "license": None if self.licence is None else self.licence.lower(),
            "homepage": self.homepage,
            "creators": list(self.creators),
            "version": self.version,
            "published": self.published,
            "tags": list(self.keywords),
            "classes": list(self.classes) if isinstance(self.classes, tuple) else self.classes,
        }
        # JSON is also YAML.
        lines = [
            f"{name}: {json.dumps(value, ensure_ascii=False)}"
            for name, value in header.items()
            if value
        ]
        parts = ["---\n" + "\n".join(lines) + "\n---", f"# {self.name}"]
        if self.description:
            parts.append(self.description)
        if self.citation:
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", self.citation)), default=0))
            parts.append(f"## Citation\n\n{fence}bibtex\n{self.citation}\n{fence}")
        parts.append(
            "## How to load it\n\nWith the CID of this folder, and `pip install ipfs-dataset`:\n\n```python\n"
            "from ipfs_dataset import IPFSDatasetExporter\n\n"
            'dataset = IPFSDatasetExporter("gateway+https://…").import_from_ipfs("ipfs://…")\n```'
        )
        return "\n\n".join(parts) + "\n"


def as_card(card: DatasetCard | str | os.PathLike[str] | None) -> DatasetCard | None:
    """Returns a card, reading it from a README if a path or text is given.

    Raises:
        ValueError: The argument is not a card.
    """
    if card is None or isinstance(card, DatasetCard):
        return card
    if isinstance(card, (str, os.PathLike)):
        return DatasetCard.from_readme(card)
    raise ValueError(f"card must be a DatasetCard or the path of a README.md, not {card!r:.80}")


def _readme_text(readme: str | os.PathLike[str]) -> str:
    if isinstance(readme, str) and "\n" in readme:
        return readme
    path = Path(readme)
    try:
        size = path.stat().st_size
        if size > MAX_README:
            raise ValueError(f"{str(path)!r} has {size} bytes, more than {MAX_README}")
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"it cannot be read: {getattr(error, 'strerror', error)}") from error


def _split(text: str) -> tuple[str, str]:
    """Splits a README into its YAML header and the rest."""
    match = _HEADER.match(text)
    return (match[1], text[match.end() :]) if match else ("", text)


def _parsed(header: str) -> dict[str, Any]:
    if len(header) > _MAX_HEADER:
        raise ValueError(f"the header of the README has more than {_MAX_HEADER} characters")
    try:
        import yaml  # noqa: PLC0415 - needed for this alone
    except ImportError as error:
        raise MissingDependencyError(
            "The header of a README.md is YAML: pip install 'ipfs-dataset[card]', or give a DatasetCard(…)"
        ) from error
    try:
        fields = yaml.safe_load(header)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"the header of the README is not YAML: {error}") from error
    if fields is None:
        return {}
    if not isinstance(fields, dict):
        raise ValueError(f"the header of the README is {fields!r:.80}, not names with values")  # noqa: TRY004
    return fields


_NAMES = {
    "name": ("pretty_name", "name"),
    "description": ("description",),
    "citation": ("citation",),
    "homepage": ("homepage",),
    "creators": ("creators", "authors"),
    "classes": ("classes",),
    "version": ("version",),
    "published": ("published",),
    "keywords": ("keywords", "tags"),
    "previews": ("previews",),
}


def _from_header(fields: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field, aliases in _NAMES.items():
        for name in aliases:
            if fields.get(name) is not None and field not in found:
                found[field] = fields[name]
    for field in ("name", "version"):
        if isinstance(found.get(field), (int, float)):
            found[field] = str(found[field])
    for field in ("creators", "keywords"):
        if isinstance(found.get(field), list):
            found[field] = [
                str(item) if isinstance(item, (int, float)) else item for item in found[field]
            ]
    licence = fields.get("licence", fields.get("license"))
    if licence is not None:
        found["licence"] = _hub_licence(licence, fields.get("license_name"))
    if "classes" not in found and (names := _class_labels(fields.get("dataset_info"))):
        found["classes"] = names
    return found


def _hub_licence(licence: Any, name: Any) -> str:
    """Returns the SPDX expression of the licence in a header, converting names of the Hub."""
    several = licence if isinstance(licence, list) else [licence]
    parts = []
    for one in several:
        text = str(one).strip()
        if text.lower() in _HUB_LICENCES:
            shown = name if text.lower() == "other" and isinstance(name, str) and name else text
            text = "LicenseRef-" + (re.sub(r"[^A-Za-z0-9.-]+", "-", shown).strip("-") or "other")
        parts.append(text)
    return parts[0] if len(parts) == 1 else " AND ".join(f"({part})" for part in parts)


def _class_labels(info: Any) -> list[str]:
    """Returns the names of the ``class_label`` in a ``dataset_info``; none if several differ."""
    found: list[list[str]] = []
    for config in info if isinstance(info, list) else [info]:
        features = config.get("features") if isinstance(config, dict) else None
        for feature in features if isinstance(features, list) else []:
            kind = feature.get("dtype") if isinstance(feature, dict) else None
            names = kind.get("class_label", {}).get("names") if isinstance(kind, dict) else None
            if isinstance(names, dict):
                found.append([str(names[key]) for key in sorted(names, key=int)])
            elif isinstance(names, list):
                found.append([str(name) for name in names])
    return found[0] if found and all(other == found[0] for other in found) else []


def _from_body(body: str) -> dict[str, Any]:
    body = body.replace("\r\n", "\n")
    found: dict[str, Any] = {}
    without_code = re.sub(r"^```.*?^```[^\n]*$", "", body, flags=re.DOTALL | re.MULTILINE)
    without_code = re.sub(r"<!--.*?-->", "", without_code, flags=re.DOTALL)
    if heading := re.search(r"^#[ \t]+(.+?)[ \t#]*$", without_code, re.MULTILINE):
        found["name"] = heading[1][:MAX_LINE]
    paragraphs = (part.strip() for part in re.split(r"\n[ \t]*\n", without_code))
    text = next((p for p in paragraphs if p and p[0] not in "#-*|<![=>"), "")
    if text:
        found["description"] = " ".join(text.split())[:MAX_TEXT]
    if bibtex := _BIBTEX.search(body):
        found["citation"] = bibtex[1].strip()[:MAX_TEXT]
    return found
