"""The transport of HTTP gateways."""
