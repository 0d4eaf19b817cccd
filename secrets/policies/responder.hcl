# What irflow's responder may do in Vault. It can replace secrets and end what was issued; it cannot read old evidence,
# change policies, or give itself more. Mounts: `irflow` (KV version 2), `database`, `transit`, `pki`, `ssh`.

path "irflow/data/*"              { capabilities = ["create", "read", "update"] }
path "irflow/metadata/*"          { capabilities = ["create", "list", "read", "update"] }
path "irflow/destroy/*"           { capabilities = ["update"] }

path "database/static-creds/*"    { capabilities = ["read"] }
path "database/rotate-role/*"     { capabilities = ["update"] }

# Leases: which there are, and to end them. A lease's name opens nothing.
path "sys/leases/lookup/*"        { capabilities = ["list", "sudo"] }
path "sys/leases/revoke-prefix/database/creds/*" { capabilities = ["sudo", "update"] }
path "sys/leases/revoke-prefix/auth/approle/login*" { capabilities = ["sudo", "update"] }

path "transit/keys/+/rotate"      { capabilities = ["update"] }
path "transit/keys/+/config"      { capabilities = ["update"] }
path "transit/keys/+"             { capabilities = ["read"] }
path "transit/encrypt/+"          { capabilities = ["create", "update"] }
path "transit/rewrap/+"           { capabilities = ["update"] }
path "transit/datakey/plaintext/evidence" { capabilities = ["update"] }
path "transit/sign/manifest"      { capabilities = ["update"] }

path "pki/issue/+"                { capabilities = ["create", "update"] }
path "pki/revoke"                 { capabilities = ["update"] }
path "pki/crl/rotate"             { capabilities = ["read"] }
path "pki/certs"                  { capabilities = ["list"] }
path "pki/cert/+"                 { capabilities = ["read"] }

# The SSH authority: Vault makes its key. Whoever could bring a key of its own could sign for everybody.
path "ssh/issuers"                { capabilities = ["list"] }
path "ssh/issuers/import/+" {
  capabilities = ["create", "update"]
  denied_parameters = { "private_key" = [], "public_key" = [], "set_default" = [] }
}
path "ssh/config/issuers"         { capabilities = ["create", "read", "update"] }
path "ssh/issuer/+"               { capabilities = ["delete"] }
path "ssh/sign/responder"         { capabilities = ["create", "update"] }

# Tokens by their accessors, which name a token and open nothing.
path "auth/token/accessors"       { capabilities = ["list", "sudo"] }
path "auth/token/accessors/"      { capabilities = ["list", "sudo"] }
path "auth/token/lookup-accessor" { capabilities = ["create", "update"] }
path "auth/token/revoke-accessor" { capabilities = ["create", "update"] }

# Its own role. Other roles whose secret-ids it replaces are added one by one: whoever can issue a secret-id of a role
# can become that role.
path "auth/approle/role/irflow/role-id" { capabilities = ["read"] }
path "auth/approle/role/irflow/custom-secret-id" { capabilities = ["create", "update"] }
path "auth/approle/role/irflow/secret-id" { capabilities = ["create", "update"] }
path "auth/approle/role/irflow/secret-id/destroy" { capabilities = ["create", "update"] }
