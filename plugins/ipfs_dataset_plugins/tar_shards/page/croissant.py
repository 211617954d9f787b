"""Writes the metadata of a published dataset in Croissant 1.1 (MLCommons), for hubs and search engines.

Each shard is a file object, with its size, its SHA-256, its ``ipfs://`` URL and a gateway URL. The members of
each field are a file set with a record set, whose records carry the key of their sample so that the fields of
a sample can be joined. Croissant cannot describe how to decode tensors, so members without a Croissant type
are given as bytes.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from ipfs_dataset_plugins.tar_shards.codecs import images
from ipfs_dataset_plugins.tar_shards.page.previews import fields_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ipfs_dataset_core import DatasetCard
    from ipfs_dataset_plugins.tar_shards.manifest import Manifest
    from ipfs_dataset_plugins.tar_shards.page.previews import Field

# The gateway of the IPFS Foundation; any other gateway serves the same content under the same path.
GATEWAY = "https://ipfs.io/ipfs/"
_MAX_FIELDS = 100
# The key of a sample, as written by `shard_writer`.
_KEY = r"^(?:.*/)?([0-9a-f]{16}(?:-[0-9]+)?)\.[^/]*$"
_MEDIA_TYPES = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "bmp": "image/bmp",
    "tif": "image/tiff",
    "avif": "image/avif",
    "jp2": "image/jp2",
    "txt": "text/plain",
    "cls": "text/plain",
    "json": "application/json",
}
_BYTES = "application/octet-stream"
_IMAGES = (images.PNG, images.FILE)
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant_json(overview: Manifest) -> bytes:
    """Returns ``croissant.json``.

    Args:
        overview: The manifest, with the SHA-256 of each shard.
    """
    shards = [shard.path for shard in overview.shards]
    fields = fields_of(overview.schema)[:_MAX_FIELDS] if shards else []
    records = [_record_set(field) for field in fields]
    if overview.classes:
        records.append(_classes(overview.classes))
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        **_about(overview.card),
        "distribution": [
            *(
                {
                    "@type": "cr:FileObject",
                    "@id": shard.path,
                    "name": shard.path.rpartition("/")[2],
                    "description": f"TAR archive of {shard.samples} samples.",
                    "contentUrl": f"{GATEWAY}{shard.cid}?filename={shard.path.rpartition('/')[2]}",
                    "sameAs": f"ipfs://{shard.cid}",
                    "contentSize": f"{shard.size} B",
                    "encodingFormat": "application/x-tar",
                    "sha256": shard.sha256,
                }
                for shard in overview.shards
            ),
            *(_file_set(field, shards) for field in fields),
        ],
        "recordSet": records,
    }
    return json.dumps(document, indent=1, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _about(card: DatasetCard | None) -> dict[str, Any]:
    if card is None:
        return {"name": "Dataset", "description": "A dataset on IPFS."}
    licence = card.licence
    if licence is not None and re.fullmatch(r"(?!LicenseRef-)[A-Za-z0-9.+-]+", licence):
        licence = f"https://spdx.org/licenses/{licence}.html"
    # A citation needs the year of the first publication if the card has no date.
    year = re.search(r"\byear\s*=\s*[{\"]?\s*((?:19|20)\d\d)\b", card.citation)
    about = {
        "name": card.name,
        "description": card.description or card.name,
        "license": licence,
        "url": card.homepage,
        "citeAs": card.citation,
        "version": card.version,
        "datePublished": card.published or (f"{year[1]}-01-01" if year else None),
        "creator": [{"@type": "sc:Person", "name": name} for name in card.creators],
        "keywords": list(card.keywords),
    }
    return {name: value for name, value in about.items() if value}


def _base(field: Field) -> str:
    return field.suffix.rpartition(".")[0]


def _file_set(field: Field, shards: Sequence[str]) -> dict[str, Any]:
    base, _, extension = field.suffix.rpartition(".")
    is_image = field.codec.partition(":")[0] in _IMAGES
    # Images of one field may be files of several formats.
    ends = (
        [e for e, kind in _MEDIA_TYPES.items() if kind.startswith("image/")]
        if is_image
        else [extension]
    )
    kinds = dict.fromkeys(_MEDIA_TYPES.get(end, _BYTES) for end in ends)
    return {
        "@type": "cr:FileSet",
        "@id": f"files/{base}",
        "name": f"files/{base}",
        "description": f"The members of the shards that hold the field {field.name!r} of each sample.",
        "containedIn": [{"@id": shard} for shard in shards],
        "encodingFormat": list(kinds) if len(kinds) > 1 else next(iter(kinds)),
        "includes": [f"*.{base}.{end}" for end in ends] if len(ends) > 1 else f"*.{base}.{ends[0]}",
    }


def _record_set(field: Field) -> dict[str, Any]:
    base = _base(field)
    source = {"fileSet": {"@id": f"files/{base}"}}
    return {
        "@type": "cr:RecordSet",
        "@id": base,
        "name": base,
        "description": f"The field {field.name!r} of each sample. {_meaning(field)}",
        "key": {"@id": f"{base}/key"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{base}/key",
                "name": "key",
                "description": "The key of the sample; it has the same one in all record sets.",
                "dataType": "sc:Text",
                "source": {
                    **source,
                    "extract": {"fileProperty": "fullpath"},
                    "transform": {"regex": _KEY},
                },
            },
            {
                "@type": "cr:Field",
                "@id": f"{base}/value",
                "name": "value",
                "description": f"What the sample has in the field {field.name!r}.",
                "dataType": _data_type(field),
                "source": {**source, "extract": {"fileProperty": "content"}},
            },
        ],
    }


def _data_type(field: Field) -> str:
    if field.codec.partition(":")[0] in _IMAGES:
        return "sc:ImageObject"
    return "sc:Integer" if field.codec == "int" else "sc:Text"


def _meaning(field: Field) -> str:
    meanings = {
        "str": "It is text in UTF-8.",
        "int": "It is an integer.",
        "json": "It is JSON.",
        "bytes": "It is bytes.",
        "tensor": "It is a .npy file of a tensor of PyTorch.",
        "ndarray": "It is a .npy file of an array of NumPy.",
        "numpy": "It is a .npy file of a scalar of NumPy.",
        images.RAW: "It is a line of JSON and the pixels of an image.",
    }
    if field.codec.partition(":")[0] in _IMAGES:
        mode = field.codec.partition(":")[2]
        return "It is an image" + (f", which is converted to the mode {mode}." if mode else ".")
    return meanings.get(field.codec, f"It is encoded by the codec {field.codec!r}.")


def _classes(classes: Mapping[str, int]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "dataset/classes",
        "name": "classes",
        "description": "The name of each class and its number.",
        "dataType": "sc:Enumeration",
        "key": {"@id": "dataset/classes/number"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"dataset/classes/{name}",
                "name": name,
                "description": description,
                "dataType": kind,
            }
            for name, description, kind in (
                ("number", "The label of samples of the class.", "sc:Integer"),
                ("name", "What the class is called.", "sc:Text"),
            )
        ],
        "data": [
            {"dataset/classes/number": number, "dataset/classes/name": name}
            for name, number in classes.items()
        ],
    }
