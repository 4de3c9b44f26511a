"""Ratios, each measured in one run on one machine."""
