"""Model selection: fits of many mixtures, their table of results, and cross-validation."""
