"""The transport of a node's RPC API."""
