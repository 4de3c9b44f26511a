"""The command line. Each command translates its options, calls, and prints; nothing heavy is imported to show help."""

from lorabench.cli.application import app, main

__all__ = ["app", "main"]
