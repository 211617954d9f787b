"""From a dataset to blocks in IPFS, and from a published dataset to a dataset."""
