"""Measurements, each printing one JSON line; peers are measured in the same run."""
