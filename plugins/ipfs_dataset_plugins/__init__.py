"""The plugins of every installation; they use only what `ipfs_dataset_core` exports to all."""
