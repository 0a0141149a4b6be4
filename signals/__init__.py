"""Pure numerics on arrays: values in, values out."""
