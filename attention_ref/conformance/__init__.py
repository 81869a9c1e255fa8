"""The libraries as kernels, what they are known for, and the matrix of them all."""
