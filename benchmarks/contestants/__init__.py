"""Contestants, one module each: functions that take a job and return an iterator of samples as bytes.

A contestant is set up as its own documentation advises for the task. Modules import their library at the
top, so that imports are not timed, and import only what is in their environment.
"""
