"""Published datasets made of TAR shards and a manifest: writing and reading them, and their page."""

NAME = "tar_shards"
MANIFEST = "manifest.json"
