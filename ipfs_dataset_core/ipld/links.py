"""The children of any block that this library can walk."""

from __future__ import annotations

from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.ipld import dag_pb
from ipfs_dataset_core.ipld.cid import CID, DAG_PB, RAW
from ipfs_dataset_core.ipld.data_model import DATA_CODECS, data_links


def links(cid: CID, block: bytes) -> list[CID]:
    """Returns the CIDs that a block links to, in order.

    Raises:
        FormatError: The block is malformed or of a codec whose links are not known here.
    """
    if cid.codec == RAW:
        return []
    if cid.codec in DATA_CODECS:
        return data_links(cid, block)
    if cid.codec != DAG_PB:
        raise FormatError(
            f"{cid} is {cid.codec_name}, and only raw, dag-pb, dag-cbor and dag-json blocks can be walked"
        )
    return [CID.from_bytes(raw) for raw in dag_pb.decode(block).cids]
