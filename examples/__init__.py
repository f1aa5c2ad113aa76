"""Five workloads that meter themselves: `python -m examples.NAME`.

See docs/explanation/workloads.md.
"""
