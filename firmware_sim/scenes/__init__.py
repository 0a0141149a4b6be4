"""Shipped scenes (TOML)."""
