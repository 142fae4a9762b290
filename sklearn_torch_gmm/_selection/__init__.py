"""What a search among many mixtures fits, compares and answers."""
