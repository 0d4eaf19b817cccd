#!/bin/sh
# Replace one public key among those that open an account of this host; what stands beside it stays as it is.
#
#   authorized_keys.sh add    --account NAME --type T --key BASE64 [--like BASE64] [--file PATH] --id HEX --epoch N --step TEXT
#   authorized_keys.sh remove --account NAME --key BASE64 [--file PATH] --id HEX --epoch N --step TEXT
#   authorized_keys.sh end    --account NAME --id HEX --epoch N --step TEXT     end the SSH sessions of the account
#
# --like: the key whose options (from=, command=, ...) the new one gets; without it on its line the new one has none.
# --file: where the keys are when not in the account's own folder; as root lays them down, in a folder of root's.
# HEX: the document that decides. N: its version; a smaller one than this host has seen is refused.
# Exit: 0; 64 usage; 65 the file cannot be changed; 67 no such account; 69 a needed program is missing; 73 no place for
# state; 75 overtaken or busy; 77 not root.
#
# The file is written as the account it belongs to: root must not follow a link that somebody lays there meanwhile.
set -eu
scope=authorized_keys
. ./common.sh
verb=${1:-}
case $verb in add | remove | end) shift ;; *) die 64 "usage: authorized_keys.sh add|remove|end" ;; esac
account='' id='' epoch='' step='' type='' key='' like='' file=''
while [ $# -gt 0 ]; do
	[ $# -ge 2 ] || die 64 "no value for '$1'"
	case $1 in
	--account) account=$2 ;;
	--epoch) number epoch "$2" && epoch=$2 ;;
	--step) step=$2 ;;
	--id) id=$2 ;;
	--type) type=$2 ;;
	--key) key=$2 ;;
	--like) like=$2 ;;
	--file) file=$2 ;;
	*) die 64 "unknown argument '$1'" ;;
	esac
	shift 2
done
check_account "$account"
case $type in *[!a-z0-9@.-]*) die 64 "not the type of a key: '$type'" ;; esac
for one in "$key" "$like"; do
	case $one in *[!A-Za-z0-9+/=]*) die 64 "not a public key: '$one'" ;; esac
done
need_root
# shellcheck disable=SC2016 # for awk
entry=$(awk -F: -v name="$account" '($1 "") == (name "") { print; exit }' /etc/passwd)
[ -n "$entry" ] || die 67 "there is no account $account in /etc/passwd"
uid=$(printf '%s' "$entry" | cut -d: -f3) gid=$(printf '%s' "$entry" | cut -d: -f4)
home=$(printf '%s' "$entry" | cut -d: -f6)
if [ -n "$file" ]; then
	case $file in /*/..* | [!/]*) die 64 "not an absolute path: '$file'" ;; esac
	[ "$(stat -c %u -- "${file%/*}")" = 0 ] || die 65 "the folder of $file is not root's"
	uid=0 gid=0
else
	file=$home/.ssh/authorized_keys
fi

# shellcheck disable=SC2016 # for awk
replaced='
function has(body,  i) { if (body != "") for (i = 1; i <= NF; i++) if ($i == body) return 1; return 0 }
verb == "remove" { if (!has(key)) print; next }
{ print; if (has(key)) there = 1; if (has(like)) { pattern = $0; patterns++ } }
END {
	if (verb == "remove" || there) exit
	options = patterns == 1 ? substr(pattern, 1, index(pattern, like) - 1) : ""
	sub(/[^ \t]+[ \t]+$/, "", options) # the type stands before the key
	print options type " " key " irflow"
}'
# shellcheck disable=SC2016 # run by the other shell
edit='
set -eu
umask 077
replaced=$1 verb=$2 file=$3 type=$4 key=$5 like=$6
folder=${file%/*}
if [ ! -e "$file" ]; then
	[ "$verb" = add ] || exit 0
	[ -d "$folder" ] || mkdir -m 700 "$folder"
	: >"$file"
fi
if [ ! -f "$file" ] || [ -L "$file" ]; then echo "irflow: $file is not a plain file" >&2; exit 65; fi
new=$(mktemp "$folder/.irflow.XXXXXX")
trap "rm -f -- \"\$new\"" EXIT
awk -v verb="$verb" -v type="$type" -v key="$key" -v like="$like" "$replaced" "$file" >"$new"
chmod "$(stat -c %a -- "$file")" "$new"
if cmp -s "$new" "$file"; then exit 0; fi
sync "$new" 2>/dev/null || :
mv -T -- "$new" "$file"
'

as_owner() {
	command -v setpriv >/dev/null || die 69 "setpriv is not installed here"
	setpriv --reuid="$uid" --regid="$gid" --clear-groups sh -c "$edit" sh "$replaced" "$@" </dev/null ||
		die 65 "$file cannot be changed as the account that it belongs to"
}

choose_state
take_lock
case $id in '' | *[!0-9a-f]*) die 64 "--id wants hex digits" ;; esac
fence "authorized_keys-$id"
case $verb in
add)
	if [ -z "$type" ] || [ -z "$key" ]; then die 64 "add wants --type and --key"; fi
	as_owner add "$file" "$type" "$key" "$like"
	;;
remove)
	[ -n "$key" ] || die 64 "remove wants --key"
	as_owner remove "$file" '' "$key" ''
	;;
end)
	ancestors
	roots=''
	for process in $(picked "$(printf '%s' "$entry" | cut -d: -f3)" '' | sed -n 's/ sshd.*//p'); do roots="$roots $process"; done
	end_picked '' "$roots"
	printf 'ended=%s\n' "$ended"
	;;
esac
