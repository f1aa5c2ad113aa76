"""Five workloads that meter themselves: `python -m examples.<name>`, see docs/workloads.md."""
