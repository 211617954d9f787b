"""What tests share: content builders, an HTTP server with faults, real nodes."""
