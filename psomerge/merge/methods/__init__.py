"""Static merges: methods that give one recipe without a search."""
