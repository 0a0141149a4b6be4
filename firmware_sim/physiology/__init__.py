"""A patient made of formulas: pure, deterministic by seed, no clock and no I/O."""
