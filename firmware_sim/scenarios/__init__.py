"""Shipped scenarios (TOML)."""
