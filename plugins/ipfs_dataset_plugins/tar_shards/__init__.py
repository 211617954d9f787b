"""Published datasets of TAR shards with a manifest: writing, reading, and the page for people."""

NAME = "tar_shards"
MANIFEST = "manifest.json"
