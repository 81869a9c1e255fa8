"""Running a candidate on a case and comparing what it returns with the truth."""
