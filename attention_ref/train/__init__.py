"""Training in plain NumPy: a translator and a reverser, on the project's own forward and backward passes."""
