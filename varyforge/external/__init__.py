"""Rules for data from outside, the same in data jobs and for external tars in a mixture."""
