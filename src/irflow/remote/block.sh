#!/bin/sh
# Block addresses on this host, both directions, forwarded traffic and open connections included; take that back exactly.
#
#   block.sh apply  --epoch N --step TEXT --id HEX --spec ID --addresses NET,NET... [--deadman SECONDS]
#   block.sh hold   --epoch N --step TEXT --id HEX --spec ID --ttl SECONDS [--probe ADDRESS,ADDRESS]
#                                                             over a NEW connection, before the dead-man fires
#   block.sh renew  --epoch N --step TEXT --id HEX --ttl SECONDS --rules SHA256 [all of apply]
#   block.sh undo   --epoch N --step TEXT --id HEX
#   block.sh status --id HEX
#
# NET: address or network, v4 or v6, none overlapping another. HEX: names the step; whatever it blocks is its own.
# IRFLOW_CONNECTION: "client_ip client_port server_ip server_port" of this session; its client is never blocked.
# Output: key=value lines. Exit: 0; 64 usage, or refused; 65 refused by the kernel; 69 no packet filter; 73 no place
# for state; 75 stale epoch, busy, or nothing left to hold; 77 not root.
#
# Each step has one table of its own: two steps may block the same or overlapping addresses, and taking one back lifts
# nothing of the other. It drops at priority -311: before conntrack, DNAT, an isolation and every other table, without
# state, so that open connections die with it; and once more after SNAT and DNAT of what leaves. It is armed by set
# elements with a timeout, which the kernel ends by itself: short until held (the dead-man), then as long as the lease.
set -eu
scope=block
. ./common.sh
verb=${1:-status}
[ $# -eq 0 ] || shift
epoch='' step='' id='' spec=none deadman=60 ttl='' rules='' addresses='' probes='' backend=none
drift=''
newline='
'

# ---------------------------------------------------------------- arguments

groups_of() { # ADDRESS -> groups: its numbers of 16 bits, two for v4, eight for v6
	old_ifs=$IFS groups=''
	case $1 in
	*.*)
		IFS=.
		# shellcheck disable=SC2086 # splitting at the dots is the point
		set -- $1
		IFS=$old_ifs
		groups="$(($1 * 256 + $2)) $(($3 * 256 + $4))"
		return
		;;
	esac
	front=${1%%::*} back=''
	case $1 in *::*) back=${1#*::} ;; esac
	IFS=:
	# shellcheck disable=SC2086 # splitting at the colons is the point
	set -- $back
	behind=$#
	# shellcheck disable=SC2086
	set -- $front
	missing=$((8 - $# - behind))
	for group in "$@"; do groups="$groups $((0x$group))"; done
	while [ $missing -gt 0 ]; do groups="$groups 0" missing=$((missing - 1)); done
	for group in $back; do groups="$groups $((0x$group))"; done
	IFS=$old_ifs
}

covers() { # NETWORK ADDRESS: whether the address lies in the network
	case $1 in *:*) bits=128 ;; *) bits=32 ;; esac
	case $2 in *:*) [ $bits = 128 ] || return 1 ;; *) [ $bits = 32 ] || return 1 ;; esac
	case $1 in */*) bits=${1##*/} ;; esac
	wanted_address=$2
	groups_of "${1%/*}"
	network_groups=$groups
	groups_of "$wanted_address"
	# shellcheck disable=SC2086 # splitting at the blanks is the point
	set -- $groups
	for group in $network_groups; do
		[ "$bits" -gt 0 ] || return 0
		mask=65535
		[ "$bits" -ge 16 ] || mask=$((65535 & ~(65535 >> bits)))
		[ $((group & mask)) = $(($1 & mask)) ] || return 1
		bits=$((bits - 16))
		shift
	done
}

check_addresses() { # NET,NET... -> addresses, with blanks
	addresses=$(printf '%s' "$1" | tr , ' ')
	for network in $addresses; do
		case $network in */0) die 64 "'$network' is everything: that would be an isolation" ;; esac
		check_network "$network"
		! covers "$network" "$peer" || die 64 "refusing to block '$network': it has $peer, where this session comes from"
		for never in 127.0.0.1 ::1; do
			! covers "$network" $never || die 64 "refusing to block '$network': it has $never, the host itself"
		done
	done
}

check_connection
while [ $# -gt 0 ]; do
	[ $# -ge 2 ] || die 64 "no value for '$1'"
	case $1 in
	--epoch) number epoch "$2" && epoch=$2 ;;
	--step) step=$2 ;;
	--id) id=$2 ;;
	--spec) spec=$2 ;;
	--deadman) number deadman "$2" && deadman=$2 ;;
	--ttl) number ttl "$2" && ttl=$2 ;;
	--rules) rules=$2 ;;
	--addresses) check_addresses "$2" ;;
	--probe) probes=$(printf '%s' "$2" | tr , ' ') ;;
	*) die 64 "unknown argument '$1'" ;;
	esac
	shift 2
done
case $spec$step$rules$probes in *[!A-Za-z0-9_@%+=:,./\ \[\]-]*) die 64 "odd characters in an argument" ;; esac
case $id in *[!0-9a-f]* | '') die 64 "--id wants hex digits, not '$id'" ;; esac
[ ${#id} -le 16 ] || die 64 "--id is longer than 16 characters"
[ ${#spec} -le 80 ] || die 64 "--spec is longer than 80 characters"
own=irflow_block_$id
chain=IRBLOCK_$id # iptables: at most 28 characters

choose_backend() {
	backend=none
	if command -v nft >/dev/null; then
		listing=$(nft list table inet "$own" 2>/dev/null) && backend=nft && return
		listing=''
		! nft list tables >/dev/null 2>&1 || backend=nft
	fi
	if [ $backend = none ] && command -v iptables-restore >/dev/null && iptables-save -t filter >/dev/null 2>&1; then
		backend=iptables
	fi
	if [ $backend = none ]; then
		need_root
		die 69 "neither nft nor iptables works here"
	fi
}

# ---------------------------------------------------------------- nftables

nft_look() { # fills state left spec_seen dropped rules_seen from $listing
	state=absent left=0 spec_seen='' dropped=0 rules_seen=''
	[ -n "$listing" ] || return 0
	for packets in $(printf '%s\n' "$listing" | sed -n 's/.* counter packets \([0-9]*\) bytes [0-9]* drop$/\1/p'); do
		dropped=$((dropped + packets))
	done
	rules_seen=$(printf '%s\n' "$listing" | sed -e '/^	set armed {/,/^	}/{/elements =/d;/ expires /d;}' \
		-e 's/ counter packets [0-9]* bytes [0-9]*/ counter/' | sha256sum)
	rules_seen=${rules_seen%% *}
	armed=$(printf '%s\n' "$listing" | sed -n '/^	set armed {/,/^	}/p')
	case $armed in *ipv4\ *ipv6\ *) ;; *) state=expired && return 0 ;; esac
	left=${armed##* expires } && seconds "${left%% *}" && left=$total
	kind=${armed##*comment \"} && kind=${kind%%\"*} && spec_seen=${kind#* }
	case $kind in deadman\ *) state=armed ;; lease\ *) state=confirmed ;; *) state=expired ;; esac
}

elements() { # kind seconds -> elements
	elements="timeout ${2}s comment \"$1 $spec\""
	elements="{ ipv4 $elements, ipv6 $elements }"
}

nft_apply() {
	case $state in absent | expired) foreign_rules >"$before" ;; esac
	v4='' v6=''
	for network in $addresses; do
		case $network in *:*) v6="$v6${v6:+, }$network" ;; *) v4="$v4${v4:+, }$network" ;; esac
	done
	[ -z "$v4" ] || v4="elements = { $v4 };"
	[ -z "$v6" ] || v6="elements = { $v6 };"
	fresh="create table inet $own"
	[ "$state" = absent ] || fresh="delete table inet $own"
	elements deadman "$deadman"
	nft -f - <<-END || die 65 "the kernel refused the rules"
		$fresh
		table inet $own {
			set blocked4 { type ipv4_addr; flags interval; $v4 }
			set blocked6 { type ipv6_addr; flags interval; $v6 }
			set armed { typeof meta nfproto; flags timeout; elements = $elements; }
			chain prerouting {
				type filter hook prerouting priority -311; policy accept;
				meta nfproto != @armed return
				iif lo return
				icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } ip6 hoplimit 255 return
				ip saddr @blocked4 counter drop
				ip6 saddr @blocked6 counter drop
			}
			chain output {
				type filter hook output priority -311; policy accept;
				meta nfproto != @armed return
				oif lo return
				icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 return
				ip daddr @blocked4 counter drop
				ip6 daddr @blocked6 counter drop
			}
			chain postrouting {
				type filter hook postrouting priority 311; policy accept;
				meta nfproto != @armed return
				oif lo return
				icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 return
				ip daddr @blocked4 counter drop
				ip6 daddr @blocked6 counter drop
			}
		}
	END
}

nft_hold() { # deleting elements that have run out fails, and the whole transaction with it: no late hold
	elements lease "$ttl"
	nft -f - <<-END 2>/dev/null || die 75 "nothing to hold: not blocked, or the dead-man has fired"
		delete element inet $own armed { ipv4, ipv6 }
		add element inet $own armed $elements
	END
}

nft_undo() {
	if [ "$state" != absent ]; then
		nft delete table inet "$own" || die 65 "the kernel refused to delete the table"
	fi
	[ -f "$before" ] || return 0
	restored=changed_meanwhile
	[ "$(foreign_rules)" != "$(cat "$before")" ] || restored=identical
}

# ---------------------------------------------------------------- iptables: weaker (wall clock, two transactions)

families() {
	each='iptables'
	! command -v ip6tables-restore >/dev/null || each='iptables ip6tables'
}

ipt_look() {
	state=absent left=0 spec_seen='' dropped=0 rules_seen='' plain='' jumps=0 wanted=0 mark=''
	families
	for tool in $each; do
		wanted=$((wanted + 3))
		while read -r counters flag where rest; do
			case "$flag $where $rest" in
			"-A $chain "*DROP)
				counters=${counters#\[} && dropped=$((dropped + ${counters%:*}))
				plain="$plain$tool $rest$newline"
				;;
			"-A $chain "*) plain="$plain$tool $rest$newline" ;;
			-A\ *irblock:*"-j $chain") jumps=$((jumps + 1)) mark=${rest#*irblock:} && mark=${mark%%[\" ]*} ;;
			esac
		done <<-END
			$("$tool-save" -c -t filter)
		END
	done
	[ -n "$plain$mark" ] || return 0
	rules_seen=$(printf '%s' "$plain" | sha256sum) && rules_seen=${rules_seen%% *}
	state=expired
	[ $jumps = $wanted ] || return 0
	now=$(date +%s)
	kind=${mark%%:*} && mark=${mark#*:} && left=$((${mark%%:*} - now)) spec_seen=${mark#*:}
	[ $left -gt 0 ] || { left=0 && return 0; }
	case $kind in deadman) state=armed ;; lease) state=confirmed ;; esac
}

ipt_jumps() { # tool kind seconds -> jumps: lines that take out the old jumps and put in new ones
	jumps='' now=$(date +%s)
	until_=$((now + $3))
	stop=$(date -u -d "@$until_" +%Y-%m-%dT%H:%M:%S)
	while read -r flag rest; do
		case "$flag $rest" in -A\ *"-j $chain") jumps="$jumps-D $rest$newline" ;; esac
	done <<-END
		$("$1" -w 5 -S)
	END
	[ -n "$2" ] || return 0
	for way in 'INPUT 1 ! -i lo' 'FORWARD 1' 'OUTPUT 1 ! -o lo'; do
		jumps="$jumps-I $way -m time --datestop $stop -m comment --comment irblock:$2:$until_:$spec -j $chain$newline"
	done
}

ipt_apply() {
	case $state in absent | expired) ipt_plain >"$before" ;; esac
	families
	for tool in $each; do
		ipt_jumps "$tool" deadman "$deadman"
		rules_=''
		# Who has the other's address is asked with these, and ARP passes as well; nothing else does.
		[ "$tool" = iptables ] || for type in 135 136; do
			rules_="$rules_-A $chain -p icmpv6 --icmpv6-type $type -m hl --hl-eq 255 -j RETURN$newline"
		done
		case $tool in iptables) other=: ;; *) other=. ;; esac
		for network in $addresses; do
			case $network in *"$other"*) continue ;; esac
			rules_="$rules_-A $chain -s $network -j DROP$newline-A $chain -d $network -j DROP$newline"
		done
		printf '*filter\n:%s - [0:0]\n%s%sCOMMIT\n' "$chain" "$rules_" "$jumps" |
			"$tool-restore" -w 5 --noflush || die 65 "$tool refused the rules"
	done
}

ipt_hold() {
	case $state in armed | confirmed) ;; *) die 75 "nothing to hold: not blocked, or the dead-man has fired" ;; esac
	families
	for tool in $each; do
		ipt_jumps "$tool" lease "$ttl"
		printf '*filter\n%sCOMMIT\n' "$jumps" | "$tool-restore" -w 5 --noflush || die 65 "$tool refused the rules"
	done
}

ipt_undo() {
	families
	for tool in $each; do
		ipt_jumps "$tool" '' 0
		! "$tool" -w 5 -n -L "$chain" >/dev/null 2>&1 || jumps="$jumps-F $chain$newline-X $chain$newline"
		printf '*filter\n%sCOMMIT\n' "$jumps" | "$tool-restore" -w 5 --noflush || die 65 "$tool refused the rules"
	done
	[ -f "$before" ] || return 0
	restored=changed_meanwhile
	[ "$(ipt_plain)" != "$(cat "$before")" ] || restored=identical
}

ipt_plain() { # all rules but irflow's, without counters and empty chains
	families
	for tool in $each; do
		"$tool-save" | sed -n 's/\[[0-9:]*\]//; /IRFLOW_/d; /IRBLOCK_/d; /^:.* ACCEPT/d; /^[-:]/p'
	done
}

# ---------------------------------------------------------------- verbs

look() {
	choose_backend
	case $backend in nft) nft_look ;; iptables) ipt_look ;; esac
}

report() {
	boot_mark
	printf 'backend=%s\nstate=%s\nleft=%s\nspec=%s\nrules=%s\ndropped_packets=%s\n' \
		$backend "$state" "$left" "$spec_seen" "$rules_seen" "$dropped"
}

apply_now() {
	[ -n "$addresses" ] || die 64 "no address given: there is nothing to block"
	case $backend in nft) nft_apply ;; iptables) ipt_apply ;; esac
}

hold_now() {
	[ "${ttl:-0}" -gt 0 ] || die 64 "$verb needs --ttl"
	case $backend in nft) nft_hold ;; iptables) ipt_hold ;; esac
	look
}

probe_now() { # try to send one datagram to each address; what the kernel dropped on the way out has been counted
	for probed in $probes; do
		counted=$dropped sent=no
		command -v bash >/dev/null && command -v timeout >/dev/null || return 0
		# shellcheck disable=SC2016 # expanded by bash, which gets the address as an argument
		! timeout 2 bash -c 'exec 3<>"/dev/udp/$1/9" && echo >&3' probe "$probed" </dev/null >/dev/null 2>&1 || sent=yes
		look
		if [ "$dropped" -gt "$counted" ]; then
			echo "probe_$probed=dropped"
		elif [ $sent = yes ]; then
			echo "probe_$probed=sent"
		else
			echo "probe_$probed=no_route"
		fi
	done
}

renew_now() { # prolong what is as we left it, else block again; that one has to be held over a new connection
	case $state in
	absent | expired) drift=$state ;;
	*) [ -z "$rules" ] || [ "$rules_seen" = "$rules" ] || drift=rules_changed ;;
	esac
	if [ -z "$drift" ] && [ "$state" = confirmed ]; then
		hold_now
		echo renewed=prolonged
	else
		apply_now
		look
		printf 'renewed=armed\ndrift=%s\n' "$drift"
	fi
	report
}

case $verb in apply | hold | renew | undo | status) ;; *) die 64 "unknown verb '$verb'" ;; esac
if [ "$verb" != status ]; then
	[ -n "$epoch" ] || die 64 "$verb needs --epoch"
	need_root
	choose_state
	take_lock
	fence "$scope-$id"
	before=$state_dir/block-$id.before
fi
look
case $verb in
apply)
	was=$state
	apply_now
	printf 'backend=%s\nstate=armed\nleft=%s\nwas=%s\n' $backend "$deadman" "$was"
	;;
hold)
	hold_now
	probe_now
	report
	;;
renew) renew_now ;;
undo)
	restored=nothing was=$state
	case $backend in nft) nft_undo ;; iptables) ipt_undo ;; esac
	rm -f "/var/lib/irflow/block-$id.before" "$before"
	look
	printf 'was=%s\nrestored=%s\n' "$was" $restored
	report
	;;
status) report ;;
esac
