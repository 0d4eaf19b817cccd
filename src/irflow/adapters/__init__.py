"""One library each, behind the ports of core."""
