"""HashiCorp Vault's API, as Vault and OpenBao serve it."""
