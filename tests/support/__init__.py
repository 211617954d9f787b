"""Helpers for tests: builders of content, HTTP servers with faults, real nodes."""
