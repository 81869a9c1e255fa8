"""What a check found, in sentences: the page, JSON, JUnit, a figure, the command to repeat it."""
