"""Compares this library with the limit of the machine and with other libraries; see README.md."""
