"""The dispatcher: a Faust app that admits requests and gives jobs to workers; the only code that imports Faust."""
