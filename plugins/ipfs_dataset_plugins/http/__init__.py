"""HTTP for the transports."""
