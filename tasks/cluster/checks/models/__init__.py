"""What is known of a model -> findings: is it whole, does it divide, does it fit. Pure."""
