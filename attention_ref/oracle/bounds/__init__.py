"""How far apart two correct programs can be: the error bounds of every result."""
