"""One workload on several of Lithops' backends, interleaved, each run kept as a profile.

`_analyzer` leads: `_backend` says which backend a name means and with which configuration, `_job`
runs one repetition on it, `_keep` writes what came of it, and `lithowatt.analysis.backends` says
what the kept profiles show.
"""
