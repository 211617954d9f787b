"""CIDs, blocks, UnixFS files and directories, and CARs, as pure functions of bytes and values.

Nothing here accesses a network or a disk. The names in ``__all__`` are public: plugins may use them.
"""

from __future__ import annotations

from ipfs_dataset_core.ipld.builder import (
    PROFILES,
    Built,
    FileBuilder,
    Profile,
    build_directory,
    build_symlink,
    build_tree,
    get_profile,
)
from ipfs_dataset_core.ipld.car import (
    CarIndex,
    CarReader,
    car_header,
    car_section,
    car_section_head,
    index_car,
    read_car,
)
from ipfs_dataset_core.ipld.cid import (
    CID,
    DAG_CBOR,
    DAG_JSON,
    DAG_PB,
    LIBP2P_KEY,
    RAW,
    SHA2_256_PREFIX,
    hasher,
    make_cid,
    verify,
)
from ipfs_dataset_core.ipld.data_model import links
from ipfs_dataset_core.ipld.directory import (
    DirectoryEntry,
    entries,
    finder,
    is_directory,
    lookup,
    parse_directory,
)
from ipfs_dataset_core.ipld.ipns_record import (
    MAX_RECORD_BYTES,
    NameRecord,
    parse_name,
    verify_record,
)
from ipfs_dataset_core.ipld.multiformats import (
    base58_decode,
    base58_encode,
    decode_varint,
    encode_varint,
)
from ipfs_dataset_core.ipld.protobuf import (
    fields as protobuf_fields,
    tagged_bytes as protobuf_bytes,
    tagged_varint as protobuf_varint,
)
from ipfs_dataset_core.ipld.public_key import PublicKey
from ipfs_dataset_core.ipld.unixfs import (
    FileNode,
    NodeKind,
    NodeType,
    leaf_frame,
    node_kind,
    parse_file,
)

__all__ = [
    "CID",
    "DAG_CBOR",
    "DAG_JSON",
    "DAG_PB",
    "LIBP2P_KEY",
    "MAX_RECORD_BYTES",
    "PROFILES",
    "RAW",
    "SHA2_256_PREFIX",
    "Built",
    "CarIndex",
    "CarReader",
    "DirectoryEntry",
    "FileBuilder",
    "FileNode",
    "NameRecord",
    "NodeKind",
    "NodeType",
    "Profile",
    "PublicKey",
    "base58_decode",
    "base58_encode",
    "build_directory",
    "build_symlink",
    "build_tree",
    "car_header",
    "car_section",
    "car_section_head",
    "decode_varint",
    "encode_varint",
    "entries",
    "finder",
    "get_profile",
    "hasher",
    "index_car",
    "is_directory",
    "leaf_frame",
    "links",
    "lookup",
    "make_cid",
    "node_kind",
    "parse_directory",
    "parse_file",
    "parse_name",
    "protobuf_bytes",
    "protobuf_fields",
    "protobuf_varint",
    "read_car",
    "verify",
    "verify_record",
]
