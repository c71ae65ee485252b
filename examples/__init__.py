"""The shipped example: a data set, a base model, and the scripts that make both again."""
