"""One module for each who takes part: functions that take a job and return an iterator of samples as bytes.

A contestant is set up as its own documentation advises for the task. Modules import their library at the
top, so that importing it is not timed, and nothing else that is not in their environment.
"""
