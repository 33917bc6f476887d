"""The report: one HTML page about data, training and scores."""
