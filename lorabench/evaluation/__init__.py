"""The arrows from suite to verdict."""
