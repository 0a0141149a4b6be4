"""Pure medicine on values: scores, limits and pathway rules, without clock, socket or log."""
