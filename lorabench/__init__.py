"""lorabench: regression tests for text-to-image LoRAs."""

__version__ = "0.1.0"
