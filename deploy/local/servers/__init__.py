"""The three servers that Headrace needs, one file each."""
