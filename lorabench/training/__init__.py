"""Judging a training while it runs: the guard, the loss, the stopping rule, the choice of the best checkpoint."""
