"""A stand-in for FlexExecutor, see README.md."""
