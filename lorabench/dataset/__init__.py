"""Audit of training pictures and captions: what is true of them, before anybody trains on them."""
