"""Lab hosts, staged attacks and probes: an incident that is real but for its address."""
