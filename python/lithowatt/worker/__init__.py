"""Metering a call in a worker that runs it in a forked process; knows no framework."""
