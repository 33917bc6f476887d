"""The model: vision encoders, connectors, fusion and a causal language model."""
