"""Reads records and nothing else: terminal text, HTML, JUnit, Markdown."""
