"""The contract between the packages: samples, shard sets, settings, errors and files."""
