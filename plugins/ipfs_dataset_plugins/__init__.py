"""The built-in plugins, which use only public names of `ipfs_dataset_core`."""
