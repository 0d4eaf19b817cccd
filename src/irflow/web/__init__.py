"""The HTTP door: takes alerts in and shows the state of incidents; holds no key but its own webhooks'."""
