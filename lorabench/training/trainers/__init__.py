"""Thin adapters that hang a monitor on a trainer's own hooks; the trainer is imported only when one is asked for."""
