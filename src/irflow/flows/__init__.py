"""The only importers of Prefect: phases, single runbooks, drills, the worker and the deployments."""
