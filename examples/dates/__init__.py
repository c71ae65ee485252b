"""Dates as people write them in ten languages, to ISO 8601: the data set of the demo."""
