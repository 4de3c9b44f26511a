"""A cell in, a picture out."""
