"""The real dispatcher and worker on a virtual clock, between models of Kafka and Postgres, driven by a seed."""
