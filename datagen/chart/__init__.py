"""Charts drawn from data, with that data as the answer."""
