"""For training loops: `Monitor`."""
