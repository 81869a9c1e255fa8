"""What is wrong, from the results that fail: form, catalog of mistakes, factors, rounding, symptoms."""
