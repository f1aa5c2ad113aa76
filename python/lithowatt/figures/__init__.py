"""Pictures of readings, timelines and calls, by matplotlib."""
