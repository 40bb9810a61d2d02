"""Float arrays in, small integers and scales out: decided once, for all backends."""
