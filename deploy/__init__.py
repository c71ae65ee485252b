"""How Headrace is installed and run: the local stack, images, charts, alerts."""
