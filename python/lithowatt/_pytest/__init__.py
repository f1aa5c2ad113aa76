"""The energy of tests: what `lithowatt.pytest_plugin` loads once it is asked for.

`metering` is in the process that runs the tests, `results` in the one that reports them; with
xdist these are several. `budget` has the arithmetic of both.
"""
