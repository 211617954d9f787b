"""The transport that finds providers through delegated routers."""
