"""The embedded mini world: procedural pictures with captions, and an oracle that reads them."""
