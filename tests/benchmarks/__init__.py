"""Benchmarks: each a command, ``python -m tests.benchmarks.NAME [--json]``, that runs both sides in turn."""
