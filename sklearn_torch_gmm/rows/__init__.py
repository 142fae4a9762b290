"""Where rows come from, and how they reach the loop batch by batch."""
