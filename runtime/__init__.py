"""Things with a lifetime: settings, Kafka clients, the database, artifacts and metrics; opened once, closed once."""
