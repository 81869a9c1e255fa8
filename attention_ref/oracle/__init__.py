"""The oracle: what a correct implementation may return, and what is wrong with one that does not."""
