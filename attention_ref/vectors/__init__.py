"""Golden vectors: inputs, exact answers and error bounds in files that any language can read."""
