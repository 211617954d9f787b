"""Published datasets as TAR shards: exporter, reader, value codecs."""
