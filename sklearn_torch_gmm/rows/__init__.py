"""Sources of rows, which pass them batch by batch to the EM loop."""
