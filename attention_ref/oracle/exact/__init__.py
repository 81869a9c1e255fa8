"""Exact values with proven error: ball arithmetic over python-flint."""
