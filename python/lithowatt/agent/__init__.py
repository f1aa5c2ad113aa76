"""The node agent: one process per machine holds the counters for everybody."""
