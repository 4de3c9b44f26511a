"""The nouns: frozen records of everything that flows through a run."""
