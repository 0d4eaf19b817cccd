"""First response and the reconciler. No Prefect here: Prefect being down delays nothing."""
