"""The words and decisions of incident response, without any I/O. Read in the order an alert travels:

alert, incident, severity, playbook, runbook, plan, action, engine, journal, status, clocks, approvals, ports.
"""
