"""Sources → samples → shards. Runs where torch is not installed."""
