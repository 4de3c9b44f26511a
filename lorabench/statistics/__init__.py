"""Names that are numbers: pairing, intervals, decisions. Arrays in, numbers out."""
