"""What lies on disk: suites and settings as people write them, caches, run folders, baselines."""
