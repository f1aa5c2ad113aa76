"""What the workloads share.

`workflow` describes a workload, `plain` and `flex` run it (on Lithops alone,
or on FlexExecutor), `command` is the command line, `records` what is kept of
each call and run, `summary` what is printed.
"""
