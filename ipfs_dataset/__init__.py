"""The import paths that users write; everything is in `ipfs_dataset_core`."""
