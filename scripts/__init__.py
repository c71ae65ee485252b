"""Programs for whoever changes Headrace; none is needed to run it."""
