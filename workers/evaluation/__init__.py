"""What an evaluation measures: examples as tokens, marks an example, intervals over all of them."""
