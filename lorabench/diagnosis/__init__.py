"""Findings to likely causes to fixes, from what a run, a course, a sweep, a file and an audit say."""
