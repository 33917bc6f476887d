"""One page about data, training and scores."""
