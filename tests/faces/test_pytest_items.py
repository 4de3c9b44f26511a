from __future__ import annotations


def test_healthy_candidate(project):
    result = project.run("-v")
    result.stdout.fnmatch_lines(["*zzz*"])
