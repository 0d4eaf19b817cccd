# What irflow's responder may do in Vault. It can replace secrets and end what was issued; it cannot read old evidence,
# change policies, or give itself more. Mounts: `irflow` (KV version 2), `database`, `transit`, `pki`, `ssh`.

path "irflow/data/*"              { capabilities = ["create", "read", "update"] }
path "irflow/metadata/*"          { capabilities = ["create", "list", "read", "update"] }
path "irflow/destroy/*"           { capabilities = ["update"] }

path "database/static-creds/*"    { capabilities = ["read"] }
path "database/rotate-role/*"     { capabilities = ["update"] }
path "sys/leases/revoke-prefix/database/creds/*" { capabilities = ["sudo", "update"] }

path "transit/keys/+/rotate"      { capabilities = ["update"] }
path "transit/keys/+/config"      { capabilities = ["update"] }
path "transit/keys/+"             { capabilities = ["read"] }
path "transit/rewrap/*"           { capabilities = ["update"] }
path "transit/datakey/plaintext/evidence" { capabilities = ["update"] }
path "transit/sign/manifest"      { capabilities = ["update"] }

path "pki/revoke"                 { capabilities = ["update"] }
path "pki/crl/rotate"             { capabilities = ["read"] }
path "pki/certs"                  { capabilities = ["list"] }
path "ssh/config/ca"              { capabilities = ["read"] }
path "ssh/sign/responder"         { capabilities = ["update"] }

path "auth/token/revoke-accessor" { capabilities = ["update"] }
path "auth/approle/role/irflow/secret-id" { capabilities = ["create", "update"] }
path "auth/approle/role/irflow/secret-id/destroy" { capabilities = ["update"] }
